from __future__ import annotations

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Calls every method of its connection that an action plugin may call."""

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._make_tmp_path()
        there = self._connection._shell.tmpdir
        data = self._transfer_data(self._connection._shell.join_path(there, 'data'), 'sent by an action\n')
        fixed = self._fixup_perms2([there, data])
        seen = self._low_level_execute_command('cat ' + data)
        loud = self._low_level_execute_command('echo loud >&2; exit 4', sudoable=False)
        piped = self._low_level_execute_command('cat', in_data='piped')
        stat = self._execute_remote_stat(data, all_vars=task_vars, follow=True)
        home = self._remote_expand_user('~/x')
        exists = self._remote_file_exists(data)
        command = self._execute_module(module_name='ansible.builtin.command', module_args={'_raw_params': 'echo by a module'}, task_vars=task_vars)
        self._remove_tmp_path(there)
        gone = self._remote_file_exists(data)
        result.update(
            changed=False, seen=seen, loud=loud, piped=piped, size=stat['size'], home=home, exists=exists, command=command, gone=gone,
            transport=bool(self._connection.transport), fixed=len(fixed or ()), chdir=self._low_level_execute_command('pwd', chdir='/usr')['stdout'],
            python=self._low_level_execute_command('echo $0', executable='/bin/bash')['stdout'],
        )
        return result
