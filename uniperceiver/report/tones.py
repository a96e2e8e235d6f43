"""A colour for each task, the same wherever the task is shown."""

from uniperceiver.report.contents import RunReport, tasks_of

# Hues in degrees, far from each other for the first few tasks; more tasks begin again.
_HUES = (258, 165, 55, 330, 215, 95, 292, 25)


def tone(report: RunReport, task: str) -> str:
    """The style attribute that gives an element of class `task` its colour."""
    tasks = tasks_of(report)
    place = tasks.index(task) if task in tasks else len(tasks)
    return f"--hue:{_HUES[place % len(_HUES)]}"
