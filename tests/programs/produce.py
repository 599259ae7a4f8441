"""A program that Flowcept 1.0.3's decorators observe, with its messages on the queue of its settings: produce.py"""

from flowcept import Flowcept, flowcept_task
from flowcept.instrumentation.flowcept_loop import FlowceptLoop


@flowcept_task
def double(x):
    return {"y": 2 * x}


@flowcept_task(output_names="total", tags=["sum"], custom_metadata={"note": "$HOME", "a.b": 1})
def add(a, b):
    return a + b


@flowcept_task
def fail(x):
    raise ValueError(x)


with Flowcept(workflow_name="decorated", workflow_args={"n": 3}, start_persistence=False, check_safe_stops=False):
    total = 0
    for i in range(3):
        total = add(double(i)["y"], total)
    for item in FlowceptLoop(items=["a", "b"], loop_name="letters", item_name="letter"):
        double(len(item))
    try:
        fail("on purpose")
    except ValueError:
        pass
print(Flowcept.current_workflow_id)
