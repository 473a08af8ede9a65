"""The action ``pmitogen.core.loop``: run one module for each item of a list, with all items sent to the target at once.

``loop`` runs a task once for each item, and each item waits for the answer to the one before: that is a round trip for each. This
action sends the items without waiting (see in_turn.py). The target runs them in their order, one after another. The registered
result has the form that ``loop`` gives it.

Only modules that do all their work on the target can be sent ahead. A module with an action plugin (``copy``, ``template``) runs
code on the controller between its requests, so its items run one by one, as do all items over another connection plugin.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins import loader
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader, module_loader
from ansible.release import __version__
from ansible.utils.display import Display

from pmitogen.util.peer_text import one_line

if TYPE_CHECKING:
    from pmitogen.ansible.in_turn import RequestsInTurn, Sent

display = Display()

NAME = "pmitogen.core.loop"
# Actions that add nothing on the controller to one module that runs on the target.
SENT_AHEAD = frozenset(f"ansible.builtin.{name}" for name in ("normal", "command", "shell"))
# Actions that change the run itself. ansible-playbook looks for their effects by the name of the task's action.
REFUSED = frozenset(
    "add_host group_by import_role import_tasks include_role include_tasks include_vars meta set_fact set_stats".split()
)
NO_ITEMS = "No items in the list"
Result = dict[str, Any]
Variables = dict[str, Any]
NO_LOG = "_ansible_no_log"  # an action plugin marks a result with it that is to be hidden, whatever the task says
# Before ansible-core 2.21, only those results of a loop are hidden that are marked; since then all, if the task or one is marked.
HIDES_MARKED_RESULTS = tuple(map(int, __version__.split(".")[:2])) < (2, 21)


class LoopAction(ActionBase):
    """One task of ``pmitogen.core.loop``."""

    _VALID_ARGS = frozenset(("module", "args", "items"))
    _supports_async = True  # so that this action refuses it with its own message

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave the module's arguments as they were written: they are templated for each item."""
        return value if name == "args" else super().finalize_task_arg(name, value, templar, context)

    def run(self, tmp: Any = None, task_vars: Variables | None = None) -> Result:
        """Run the module for each item. Raises AnsibleError if the task is wrong as a whole."""
        if not hasattr(ActionBase, "finalize_task_arg"):
            raise AnsibleActionFail(f"{NAME}: needs ansible-core 2.19 or later; use loop")
        super().run(tmp, task_vars)
        items = self._checked_items()
        if not items:
            return {"changed": False, "skipped": True, "skip_reason": NO_ITEMS, "skipped_reason": NO_ITEMS, "results": []}
        self._warn_of_variables(task_vars or {})
        handler_name, is_sent_ahead = self._find_handler(self._task.args["module"])
        results: list[Result] = [{} for _ in items]
        with self._requests_in_turn(is_sent_ahead) as requests:
            waiting: list[tuple[int, Sent, _Item]] = []
            for index, variables in enumerate(self._variables(items, task_vars or {})):
                if index and self._pause:
                    time.sleep(self._pause)
                item = _Item(self, handler_name, variables)
                sent = item.attempt(functools.partial(requests.send, item.run) if requests is not None else item.run)
                if isinstance(sent, dict):
                    results[index] = item.finish(sent)
                else:
                    waiting.append((index, sent, item))
                while requests is not None and waiting and (requests.is_full or index + 1 == len(items)):
                    first, first_sent, first_item = waiting.pop(0)
                    results[first] = self._answer(requests, first_sent, first_item)
        return self._overall(results)

    @staticmethod
    def _answer(requests: RequestsInTurn, sent: Sent, item: _Item) -> Result:
        """Return the result of an item that was sent ahead."""
        return item.finish(item.attempt(lambda: requests.answer(sent, item.run)))

    @functools.cached_property
    def module_task(self) -> Any:
        """The task that the module's action plugin sees. Its arguments change with each item."""
        task = self._task.copy()
        task.action = self._task.args["module"]
        return task

    # Arguments of the task

    def _checked_items(self) -> list[Any]:
        task, args = self._task, self._task.args
        control = task.loop_control
        if task.async_val:
            raise AnsibleActionFail(f"async: {NAME} waits for all its items; remove async, or use loop")
        if task.loop is not None:
            raise AnsibleActionFail(f"loop: cannot be combined with the items of {NAME}; remove one of them")
        if getattr(control, "break_when", None):
            raise AnsibleActionFail(f"break_when: {NAME} sends all items at once; use loop")
        for name in ("module", "items"):
            if name not in args:
                raise AnsibleActionFail(f"{NAME}: missing required argument: {name}")
        module, items = args["module"], args["items"]
        if not isinstance(module, str):
            raise AnsibleActionFail(f"module: expected the name of a module, not {_type_name(module)}")
        if module == NAME or module.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.") in REFUSED:
            raise AnsibleActionFail(f"module: {module} acts on the run, not on the target; use loop")
        if not isinstance(items, list):
            raise AnsibleActionFail(f"items: expected a list, not {_type_name(items)}")
        return items

    @property
    def _pause(self) -> float:
        """Seconds between two items."""
        return float(self._task.loop_control.pause or 0)

    def _warn_of_variables(self, task_vars: Variables) -> None:
        control = self._task.loop_control
        for name, option in ((control.loop_var, "loop_var"), (control.index_var, "index_var")):
            if name and name in task_vars:
                display.warning(
                    f"The variable {name!r} is already in use. You should set the `{option}` value in the `loop_control` option "
                    "for the task to something else to avoid variable collisions and unexpected behavior."
                )

    def _find_handler(self, module: str) -> tuple[str, bool]:
        """Return the name of the action plugin that runs *module*, and whether its requests may be sent ahead."""
        collections = self._task.collections
        context = module_loader.find_plugin_with_context(module, collection_list=collections)
        if context.resolved and context.action_plugin:
            name = context.action_plugin
        elif action_loader.has_plugin(module, collection_list=collections):
            name = module
        elif context.resolved:
            name = "ansible.legacy.normal"
        else:
            raise AnsibleActionFail(f"module: {module!r} was not found; expected the name of a module")
        action = action_loader.find_plugin_with_context(name, collection_list=collections)
        return name, action.resolved_fqcn in SENT_AHEAD

    @contextlib.contextmanager
    def _requests_in_turn(self, is_sent_ahead: bool) -> Iterator[RequestsInTurn | None]:
        """Yield the sender of modules; None if they are to run one by one."""
        in_turn = getattr(self._connection, "requests_in_turn", None)
        if in_turn is None or not is_sent_ahead or self._pause:
            yield None
        else:
            with in_turn() as requests:
                yield requests

    def _variables(self, items: list[Any], task_vars: Variables) -> Iterator[Variables]:
        """Yield the variables of the loop for each item."""
        control, count = self._task.loop_control, len(items)
        for index, item in enumerate(items):
            variables: Variables = {**task_vars, "ansible_loop_var": control.loop_var, control.loop_var: item}
            if control.index_var:
                variables.update({"ansible_index_var": control.index_var, control.index_var: index})
            if control.extended:
                variables["ansible_loop"] = _extended(items, index, count, bool(control.extended_allitems))
            yield variables

    # The task's result

    def _overall(self, results: list[Result]) -> Result:
        """Return the task's result in the form of ``loop``, with the facts and differences that Ansible takes from a task."""
        overall: Result = {"results": results, "changed": any(result["changed"] for result in results)}
        marks = [result.pop(NO_LOG, False) or bool(self._task.no_log) for result in results]
        if any(marks):
            overall[NO_LOG] = True
            for result, is_marked in zip(results, marks, strict=True) if HIDES_MARKED_RESULTS else ():
                if is_marked:
                    result[NO_LOG] = True
        failed = any(result["failed"] for result in results)
        skipped = all(result.get("skipped") for result in results)
        if skipped:
            overall["skipped"] = True
        if failed:
            overall["failed"] = True
        if any(result.get("unreachable") for result in results):
            overall["unreachable"] = True
        overall["msg"] = "All items skipped" if skipped else "One or more items failed" if failed else "All items completed"
        facts = {name: value for result in results for name, value in (result.get("ansible_facts") or {}).items()}
        if facts:
            overall["ansible_facts"] = facts
        if self._task.diff:
            differences = [result["diff"] for result in results if result.get("diff")]
            overall["diff"] = [
                each for difference in differences for each in (difference if isinstance(difference, list) else [difference])
            ]
        return overall


class _Item:
    """One item: its arguments, the action plugin that runs it, and its result."""

    def __init__(self, action: LoopAction, handler_name: str, variables: Variables) -> None:
        self._action, self._handler_name, self._variables = action, handler_name, variables
        self._args: Mapping[str, Any] | None = None

    def run(self) -> Result:
        """Run the module. Raises AnsibleError."""
        action = self._action
        if self._args is None:
            self._args = self._templated()
        task = action.module_task
        task.args = dict(self._args)
        handler = action_loader.get(
            self._handler_name,
            task=task,
            connection=action._connection,
            play_context=action._play_context,
            loader=action._loader,
            templar=self._templar,
            shared_loader_obj=loader,
            collection_list=task.collections,
        )
        try:
            result: Result = handler.run(task_vars=self._variables)
        finally:
            handler.cleanup()
        return result

    @functools.cached_property
    def _templar(self) -> Any:
        return self._action._templar.copy_with_new_env(available_variables=self._variables)

    def _templated(self) -> Mapping[str, Any]:
        task, templar = self._action._task, self._templar
        written = task.args.get("args") or {}
        args = templar.template(written)
        if not isinstance(args, Mapping):
            raise AnsibleActionFail(f"args: expected a dictionary of module arguments, not {args!r}")
        defaults: dict[str, Any] = {}
        for layer in task.module_defaults or ():
            defaults.update(templar.template(layer).get(task.args["module"]) or {})
        return {**defaults, **args}

    @staticmethod
    def attempt(work: Callable[[], Any]) -> Any:
        """Return what *work* returns. An error is the result of its item."""
        try:
            return work()
        except AnsibleConnectionFailure as exc:
            return {"unreachable": True, "msg": str(exc)}
        except Exception as exc:
            return {"failed": True, "msg": str(exc), **(getattr(exc, "result", None) or {})}

    def finish(self, result: Result) -> Result:
        """Return the item's result as ``loop`` registers it, and show it if it has failed."""
        registered = {name: value for name, value in result.items() if not name.startswith("_ansible_")}
        registered.setdefault("failed", registered.get("rc") not in (None, 0))
        registered.setdefault("changed", False)
        names = ("ansible_loop_var", "ansible_index_var", "ansible_loop")
        for name in names:  # the target must not choose them: it would choose variables of the controller to be shown
            registered.pop(name, None)
        registered.update({name: self._variables[name] for name in names if name in self._variables})
        for name in names[:2]:
            if name in self._variables:
                registered[self._variables[name]] = self._variables[self._variables[name]]
        if result.get(NO_LOG, False) is not False:  # as in Ansible, a value of another type counts as true
            registered[NO_LOG] = True
        self._show(registered)
        return registered

    def _show(self, result: Result) -> None:
        action = self._action
        failed = result["failed"] or result.get("unreachable")
        if action._task.no_log or NO_LOG in result or not failed and display.verbosity < 1:
            return
        label = self._label()
        host = action._task.delegate_to or self._variables.get("inventory_hostname")
        outcome = "unreachable" if result.get("unreachable") else "failed" if failed else "changed" if result["changed"] else "ok"
        message = f": {result.get('msg')}" if failed and result.get("msg") else ""
        line = one_line(f"{outcome}: [{host}] (item={label}){message}")
        display.display(line, color="red" if failed else None, stderr=bool(failed))

    def _label(self) -> str:
        control = self._action._task.loop_control
        if not control.label:
            return str(self._variables[control.loop_var])
        try:
            return str(self._templar.template(control.label))
        except Exception as exc:
            display.warning(f"loop_control: label: {exc}")
            return ""


def _type_name(value: Any) -> str:
    """Return the name of the built-in type behind Ansible's own."""
    return next(kind.__name__ for kind in type(value).__mro__ if kind.__module__ == "builtins")


def _extended(items: list[Any], index: int, count: int, with_items: bool) -> Result:
    """Return ``ansible_loop``, for ``loop_control: extended``."""
    variables: Result = {
        "index": index + 1,
        "index0": index,
        "first": index == 0,
        "last": index + 1 == count,
        "length": count,
        "revindex": count - index,
        "revindex0": count - index - 1,
    }
    if with_items:
        variables["allitems"] = items
    if index + 1 < count:
        variables["nextitem"] = items[index + 1]
    if index:
        variables["previtem"] = items[index - 1]
    return variables
