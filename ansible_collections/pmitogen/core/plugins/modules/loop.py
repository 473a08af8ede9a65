# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin ``pmitogen.core.loop``, where Ansible looks for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: loop
short_description: run a module for each item of a list without a round trip for each
description:
  - Runs one module for each item of a list, as the keyword C(loop) does, and registers the same.
  - Over C(pmitogen) the first item runs alone; all others are sent at once, and the target runs them in their order, one after
    another. A list takes two round trips, however long it is.
  - Over any other connection plugin, and for modules that have an action plugin of their own (M(ansible.builtin.copy),
    M(ansible.builtin.template)), the items run one by one, as with C(loop).
  - All items run, also if one fails. The task fails at the end, with the message of C(loop).
options:
  module:
    description: The name of the module.
    type: str
    required: true
  args:
    description:
      - The arguments of the module. They are templated for each item, with the variables of the loop.
      - Of C(module_defaults), those that have the module's name as given here apply, and no groups.
    type: dict
    default: {}
  items:
    description: The list.
    type: list
    elements: raw
    required: true
notes:
  - Needs ansible-core 2.19 or later.
  - Of C(loop_control), C(loop_var), C(index_var), C(label), C(extended) and C(pause) apply. With a pause, the items run one by
    one. C(break_when) is refused.
  - C(when), C(changed_when), C(failed_when), C(until), C(timeout), C(delegate_to), C(become_user), C(environment) and C(no_log)
    belong to the task, so they cannot use the item. C(until) repeats all items.
  - C(async) and C(loop) are refused.
  - If the connection is lost, the items that were sent and not answered are unreachable.
  - Ansible's callbacks see one result with a list. Failed items are also shown one by one on stderr, all others with C(-v).
  - The registered result also has C(diff), the differences of all items, in diff mode, and C(ansible_facts) if items have facts.
attributes:
  check_mode:
    description: As far as the module supports it.
    support: full
  diff_mode:
    description: As far as the module supports it.
    support: full
  async:
    description: Refused.
    support: none
author: pmitogen contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Create accounts
  pmitogen.core.loop:
    module: ansible.builtin.user
    args:
      name: "{{ item.name }}"
      shell: "{{ item.shell }}"
    items: "{{ accounts }}"
  loop_control:
    label: "{{ item.name }}"
  become: true
  register: created

- name: Show which are new
  ansible.builtin.debug:
    msg: "{{ created.results | selectattr('changed') | map(attribute='item.name') }}"
"""

RETURN = r"""
results:
  description: The result of each item, as C(loop) registers it.
  type: list
  elements: dict
  returned: always
msg:
  description: Whether all items were completed, one or more have failed, or all were skipped.
  type: str
  returned: if there are items
"""
