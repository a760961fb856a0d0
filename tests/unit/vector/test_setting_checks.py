"""Settings: presets, bounds, and the names that callers and engines may use."""

import pytest

from services.common.errors import Reason, ServiceError
from services.vector.checks import check_collection_id, check_settings, check_storage_id
from services.vector.model import Hnsw, Quantization, Query
from services.vector.setting_checks import choose_hnsw


def test_presets_are_what_the_contract_says():
    """Each number of each; balanced searches as wide as was measured."""
    assert choose_hnsw("fast") == Hnsw(m=12, ef_construction=100, ef_search=50)
    assert choose_hnsw() == Hnsw(m=16, ef_construction=128, ef_search=0)
    assert choose_hnsw("accurate") == Hnsw(m=32, ef_construction=400, ef_search=200)


def test_a_number_wins_over_the_preset():
    """And leaves the others alone."""
    chosen = choose_hnsw("accurate", m=8, quantization=Quantization.I8)
    assert chosen == Hnsw(m=8, ef_construction=400, ef_search=200, quantization=Quantization.I8)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("m", 4, 64), ("ef_construction", 16, 1000), ("ef_search", 10, 4096)],
)
def test_numbers_have_bounds(name, least, most):
    """Both ends pass; one beyond is refused by name."""
    for number in (least, most):
        assert getattr(choose_hnsw(**{name: number}), name) == number
    for number in (least - 1, most + 1, -1):
        with pytest.raises(ServiceError) as error:
            choose_hnsw(**{name: number})
        assert error.value.reason == Reason.FIELD_INVALID
        assert error.value.metadata["field"] == f"hnsw.{name}"


def test_callers_cannot_name_a_shadow():
    """Engines can; neither can name a shadow of a shadow."""
    check_storage_id("~docs")
    for check, name in (
        (check_collection_id, "~docs"),
        (check_storage_id, "~~docs"),
        (check_storage_id, "~"),
        (check_storage_id, "~-a"),
    ):
        with pytest.raises(ServiceError):
            check(name)


@pytest.mark.parametrize("recall", [float("nan"), float("inf"), -0.01, 1.01])
def test_recall_is_a_share(recall):
    """From 0 to 1 and nothing else."""
    with pytest.raises(ServiceError) as error:
        check_settings(Query(vectors=[], min_recall=recall))
    assert error.value.metadata["field"] == "min_recall"
