"""A web process that has started leaves what it has imported to no garbage collection."""

from tests.support.service import PYTHON, Service

SAY = "import gc, couponsite.wsgi; print('objects', len(gc.get_objects()), gc.get_freeze_count())"


def test_a_full_collection_of_a_web_process_looks_at_little(service: Service) -> None:
    process = service.start("web process", [PYTHON, "-c", SAY])

    assert process.wait() == 0, process.output
    said = next(line for line in process.output.splitlines() if line.startswith("objects "))
    looked_at, spared = map(int, said.split()[1:])
    assert spared > 50_000
    assert looked_at < spared / 20
