"""Return the import system's facts about a module and the files sent with it; for any Python."""
from __future__ import absolute_import, division, print_function
__metaclass__ = type

import importlib
import inspect
import linecache
import os
import pickle
import pkgutil
import runpy
import subprocess
import sys
import traceback
import zipfile

import ansible
import ansible.module_utils
from ansible.module_utils import basic
from ansible.module_utils.common.text import converters

PY3 = sys.version_info[0] > 2
if sys.version_info >= (3, 7):
    import importlib.resources


class Thing:
    """For pickle."""

    def __init__(self, value):
        self.value = value

    def twice(self):
        return self.value * 2


def fail_here(number):
    raise ValueError('here %d' % number)  # this line appears in a traceback


def double(number):
    return number * 2


def describe(module):
    """Return all attributes of a module that tell its location."""
    found = {}
    for name in ('__name__', '__file__', '__path__', '__package__', '__cached__', '__doc__'):
        value = getattr(module, name, 'none')
        found[name] = list(value) if name == '__path__' and value != 'none' else value
    spec = getattr(module, '__spec__', None)
    if spec is not None:
        for name in ('name', 'origin', 'has_location', 'cached', 'parent', 'submodule_search_locations'):
            value = getattr(spec, name)
            found['spec ' + name] = list(value) if isinstance(value, list) else value
    loader = getattr(module, '__loader__', None)
    name = spec.name if spec is not None else module.__name__
    for label, work in (
        ('is_package', lambda: loader.is_package(name)),
        ('get_filename', lambda: loader.get_filename(name)),
        ('get_code', lambda: loader.get_code(name).co_filename),
        ('get_source', lambda: len(loader.get_source(name))),
        ('get_data', lambda: len(loader.get_data(module.__file__))),
        ('archive', lambda: loader.archive),
        ('prefix', lambda: loader.prefix),
        ('of another', lambda: loader.get_source(name + 'x')),
        ('same as spec', lambda: spec is None or spec.loader is loader),
    ):
        found['loader ' + label] = attempt(work, message=False)
    return found


def attempt(work, message=True):
    try:
        return work()
    except Exception as exc:
        kind = 'ImportError' if isinstance(exc, ImportError) else type(exc).__name__
        return '%s: %s' % (kind, exc) if message else kind


def resources(package, name):
    """Call importlib.resources in each of its forms."""
    found = {}
    if sys.version_info < (3, 7):
        return found
    api = importlib.resources
    for label, work in (
        ('read_binary', lambda: len(api.read_binary(package, name))),
        ('read_text', lambda: len(api.read_text(package, name))),
        ('open_binary', lambda: len(api.open_binary(package, name).read())),
        ('is_resource', lambda: (api.is_resource(package, name), api.is_resource(package, 'not there'))),
        ('contents', lambda: sorted(set(api.contents(package)))),
        ('missing', lambda: api.read_binary(package, 'not there')),
        ('path', lambda: by_path(api, package, name)),
        ('files', lambda: by_files(api, package, name)),
        ('module', lambda: sorted(entry.name for entry in api.files('ansible.module_utils.basic').iterdir())),
    ):
        found[label] = attempt(work, message=False)
    return found


def by_path(api, package, name):
    with api.path(package, name) as path:
        return [type(path).__name__, path.suffix, len(path.read_bytes())]


def by_files(api, package, name):
    if not hasattr(api, 'files'):
        return None
    folder = api.files(package)
    one = folder.joinpath(name)
    found = [len(one.read_bytes()), len(one.read_text(encoding='utf-8')), one.name, one.is_file(), one.is_dir(), str(one), str(folder)]
    found += [folder.is_dir(), folder.name, sorted((entry.name, entry.is_dir()) for entry in folder.iterdir()), type(folder).__name__]
    found += [len((folder / name).open('rb').read()), (folder / 'not there').is_file()]
    with api.as_file(one) as path:
        found.append([path.suffix, len(path.read_bytes())])
    return found


def source():
    def here():
        return inspect.currentframe()

    frame = here()
    return {
        'module': len(inspect.getsource(basic)),
        'function': inspect.getsource(double),
        'class': inspect.getsource(Thing),
        'method': inspect.getsource(basic.AnsibleModule.exit_json)[:60],
        'frame': attempt(lambda: inspect.getsource(frame)),
        'file': inspect.getsourcefile(basic),
        'file of a function': inspect.getsourcefile(basic.AnsibleModule.exit_json),
        'file of a class': inspect.getfile(Thing),
        'module of a frame': getattr(inspect.getmodule(frame), '__name__', None),
        'stack': [[entry[3], entry[4] and entry[4][0].strip()] for entry in inspect.stack()[:2]],
        'line': linecache.getline(basic.__file__, 20, vars(basic)),
        'code': basic.AnsibleModule.exit_json.__code__.co_filename,
    }


def tracebacks():
    found = []
    for work in (lambda: fail_here(3), lambda: converters.to_bytes(3, nonstring='no such')):
        try:
            work()
        except Exception:
            found.append(traceback.format_exc())
    return found


def in_processes(target):
    """Use multiprocessing with each start method: 'fork' is the default before Python 3.14."""
    if not PY3:
        return None
    import multiprocessing

    found = {}
    for how in ('fork', 'spawn', 'forkserver'):
        context = multiprocessing.get_context(how)
        with context.Pool(1) as pool:
            for label, function in (('of a util', double), ('of the module', target)):
                found[how + ' ' + label] = attempt(lambda: pool.apply_async(function, (21,)).get(20))
    return found


def programs(root):
    """Start programs that import from the module's location."""
    code = 'import sys, ansible.module_utils.basic as it; print(it.__file__); print(sys.path[0])'
    env = dict(os.environ, PYTHONPATH=root)
    return [
        attempt(lambda: subprocess.check_output([sys.executable, '-c', code], env=env).decode()),
        attempt(lambda: subprocess.check_output([sys.executable, '-m', 'ansible.module_utils.import_probe'], env=env).decode()),
        attempt(lambda: subprocess.check_output([sys.executable, '-c', 'import runpy; print(len(runpy.run_path(%r)))' % root]), False),
    ]


def finders():
    importer = pkgutil.get_importer(sys.path[0])
    found = {
        'meta': [getattr(finder, '__name__', type(finder).__name__) for finder in sys.meta_path],
        'ours': sorted(name for name in sys.modules if name.partition('.')[0] in ('pmitogen', 'mitogen')),
        'hooks': len(sys.path_hooks) > 0,
        'missing': attempt(lambda: importlib.import_module('ansible.module_utils.not_there')),
        'gone': attempt(lambda: importlib.import_module('not_there')),
        'data': len(pkgutil.get_data('ansible.module_utils', 'basic.py')),
        'no data': attempt(lambda: pkgutil.get_data('ansible.module_utils', 'not there'), False),
        'at the top': sorted(list(entry)[1:] for entry in pkgutil.iter_modules([sys.path[0]])),
        'below': [list(entry)[1:] for entry in pkgutil.iter_modules(ansible.module_utils.__path__, 'x.')],
        'deeper': [list(entry)[1:] for entry in pkgutil.iter_modules(sys.modules['ansible.module_utils.common'].__path__)],
        'walked': [list(entry)[1:] for entry in pkgutil.walk_packages(ansible.module_utils.__path__, 'ansible.module_utils.')],
        'loader': attempt(lambda: pkgutil.find_loader('ansible.module_utils.basic').get_filename('ansible.module_utils.basic')),
        'outside': attempt(lambda: importer.get_data('/etc/hostname'), False),
        'relative': attempt(lambda: len(importer.get_data('ansible/module_utils/basic.py'))),
    }
    if PY3:
        from importlib import machinery, util

        path = ansible.module_utils.__path__
        found['by path'] = machinery.PathFinder.find_spec('ansible.module_utils.basic', path).origin
        found['by name'] = util.find_spec('ansible.module_utils.basic').origin
        found['no spec'] = util.find_spec('ansible.module_utils.not_there')
        if sys.version_info >= (3, 10):
            found['spec'] = importer.find_spec('ansible').origin, importer.find_spec('not_there')
        found['resolved'] = util.resolve_name('..basic', 'ansible.module_utils.common')
        found['reloaded'] = importlib.reload(converters) is converters
        loader = converters.__spec__.loader
        module = util.module_from_spec(util.spec_from_loader('ansible.module_utils.common.text.converters', loader))
        found['again'] = attempt(lambda: loader.exec_module(module), False), module.__file__
        if sys.version_info < (3, 12):
            found['loaded'] = attempt(lambda: loader.load_module('ansible.module_utils.common.text.converters') is converters)
    else:
        found['reloaded'] = reload(converters) is converters  # noqa: F821
        found['loaded'] = converters.__loader__.load_module('ansible.module_utils.common.text.converters') is converters
    if sys.version_info >= (3, 8):
        from importlib import metadata

        found['distributions'] = sorted(str(one.metadata['Name']) for one in metadata.distributions())
        found['no distribution'] = attempt(lambda: metadata.version('not-there'))
    return found


def contents(root):
    """Read the archive itself, which exists over ssh."""
    with zipfile.ZipFile(root) as archive:
        names = sorted(set(archive.namelist()))
        site = archive.read('sitecustomize.py').decode().replace(' ', '').replace('\\n', '\n')  # ansible-core 2.19 escapes twice
        return [names, len(archive.read('ansible/module_utils/basic.py')), site]


def run_again():
    found = runpy.run_module('ansible.module_utils.common.text.formatters')
    return sorted(name for name in found if name.startswith('__')), found['__file__'], found['__name__'], found['__package__']


def report(main, function, thing, root):
    modules = ('ansible', 'ansible.module_utils', 'ansible.module_utils.basic', 'ansible.module_utils.import_probe')
    return {
        'path': list(sys.path),
        'argv': list(sys.argv),
        'main': describe(main),
        'modules': dict((name, describe(sys.modules[name])) for name in modules),
        'finders': finders(),
        'resources': resources('ansible.module_utils', 'basic.py'),
        'source': source(),
        'tracebacks': tracebacks(),
        'pickled': [pickle.loads(pickle.dumps(one)).twice() for one in (Thing(4), thing)],
        'processes': in_processes(function),
        'programs': programs(root),
        'archive': attempt(lambda: contents(root)),
        'exists': [os.path.exists(root), os.path.isfile(root), os.path.exists(basic.__file__)],
        'again': run_again(),
    }


def plain(value, root):
    """Return *value* for JSON, with the archive's path as ROOT."""
    if isinstance(value, dict):
        return dict((str(key), plain(item, root)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [plain(item, root) for item in value]
    if isinstance(value, (bool, int, type(None))):
        return value
    return str(value).replace(root, 'ROOT')


if __name__ == '__main__':
    print('as a program: ' + __file__)
