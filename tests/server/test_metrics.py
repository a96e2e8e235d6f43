"""The page of figures, as Prometheus reads it: a bucket of a histogram counts all that is at most its bound."""

from uniperceiver.server.metrics import Histogram, Metrics


def test_buckets_of_a_histogram_add_up() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (1, 1, 2, 3, 4, 9):
        histogram.add(value)
    assert list(histogram.lines("size")) == [
        'size_bucket{le="1"} 2',
        'size_bucket{le="2"} 3',
        'size_bucket{le="4"} 5',
        'size_bucket{le="+Inf"} 6',
        "size_sum 20.000000",
        "size_count 6",
    ]


def test_the_page_has_a_line_for_every_route_and_status() -> None:
    metrics = Metrics(restarts=2)
    metrics.requests["/v1/embed", 200] += 3
    metrics.requests["/v1/embed", 422] += 1
    lines = metrics.page({"queue_length": 4}, {"front": 5000}).splitlines()
    assert 'uniperceiver_requests_total{path="/v1/embed",status="200"} 3' in lines
    assert 'uniperceiver_requests_total{path="/v1/embed",status="422"} 1' in lines
    assert "uniperceiver_engine_restarts_total 2" in lines
    assert "uniperceiver_queue_length 4" in lines
    assert 'uniperceiver_process_resident_bytes{who="front"} 5000' in lines
