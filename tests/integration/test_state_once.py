"""Writes that the client repeats under one id, while the state process is killed."""

from llmspell import Client

KILLS_AT = {30, 60}
INCREMENTS = 90


def test_increments_count_once_over_kills(fresh_deployment):
    """Each increment that was answered counts once, whether or not it had to be repeated."""
    with Client(fresh_deployment.address, fresh_deployment.keys["acme"]) as client:
        sums = []
        for number in range(INCREMENTS):
            if number in KILLS_AT:
                fresh_deployment.kill("state")
            sums.append(client.increment_state("n"))
        assert sums == list(range(1, INCREMENTS + 1))
        assert client.get_state("n").value == INCREMENTS


def test_a_raw_call_repeated_under_its_id(deployment):
    """The id travels through all processes: the second call answers as the first, the sum stays."""
    with (
        Client(deployment.address, deployment.keys["acme"]) as acme,
        Client(deployment.address, deployment.keys["globex"]) as globex,
    ):
        from llmspell import _state

        call = _state.increment_state("raw-once", 5, "global", if_revision=None)
        call.request.request_id = "the-same"
        assert [acme._unary(call), acme._unary(call)] == [5, 5]
        assert globex._unary(call) == 5
        assert acme.increment_state("raw-once", 1) == 6
