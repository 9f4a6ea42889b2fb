"""Run in a process of its own (through runpy): one run, killed right after a checkpoint if ``kill_at`` is given."""

import os

import qrl.study.run as module

kill_at = globals().get("kill_at")
if kill_at is not None:
    save_step = module.save_step

    def save_and_die(root, step, *rest):
        save_step(root, step, *rest)
        if step >= kill_at:
            os._exit(77)

    module.save_step = save_and_die

module.run(globals()["recipe"], globals()["agent"], 3, globals()["folder"])
