"""Of two measurements with one timestamp, ``latest`` shows the one that an open alert is about."""

import pytest

from tests.api.api_world import World, limit


@pytest.mark.parametrize("values", [(70.0, 97.0), (97.0, 70.0)])
@pytest.mark.parametrize("asked", ["one", "all"])
def test_the_one_of_an_open_alert_is_shown(world: World, values: tuple[float, float], asked: str) -> None:
    patient, device = world.worn()
    other, _ = world.worn()
    world.limits(patient, limit(severity="S1"))
    for seq, value in enumerate(values, 1):
        world.read(patient, value, device=device, seq=seq)
    world.read(other, 97.0)
    world.evaluated()
    world.stored()
    api = world.api("viewer")

    def shown() -> tuple[float, int]:
        if asked == "one":
            (reading,) = api.get(f"/patients/{patient}/latest")["items"]
        else:
            found = {one["patient"]: one["readings"] for one in api.get("/latest")["items"]}
            assert [one["value"] for one in found[other]] == [97.0]
            (reading,) = found[patient]
        return reading["value"], reading["seq"]

    assert shown() == (70.0, values.index(70.0) + 1)
    world.read(patient, 96.0, device=device, start_s=60.0)
    world.evaluated()
    assert shown()[0] == 96.0, "a newer one"


def test_without_an_open_alert_the_last_one_counts(world: World) -> None:
    patient, device = world.worn()
    for seq, value in enumerate((70.0, 97.0), 1):
        world.read(patient, value, device=device, seq=seq)
    world.evaluated()
    world.stored()
    (reading,) = world.api("viewer").get(f"/patients/{patient}/latest")["items"]
    assert (reading["value"], reading["seq"]) == (97.0, 2)
