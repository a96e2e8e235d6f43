"""Requests that a server's OpenAPI allows, and such that it does not, made up by schemathesis."""

from hypothesis import HealthCheck, given, settings


def fuzz(url: str, examples: int, seed: int | None = None) -> int:
    """Ask every operation so many times, and check each answer against its description; how often it was asked.

    That data of the right form are accepted is not checked: no description says what base64 of a picture is.

    Args:
        seed: None: the same cases every time.

    Raises:
        FailureGroup: an answer is not as described, or a 5xx.
    """
    import schemathesis
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    (accepts,) = CHECKS.get_by_names(["positive_data_acceptance"])
    count = 0
    for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = result.ok()

        def ask(case: schemathesis.Case) -> None:
            nonlocal count
            count += 1
            case.call_and_validate(timeout=60, excluded_checks=[accepts])

        calm = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=seed is None,
            suppress_health_check=list(HealthCheck),
        )
        calm(given(case=operation.as_strategy())(ask))()
    return count
