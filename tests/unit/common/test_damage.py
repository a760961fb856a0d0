"""What a process tells of damage: by name, once, until it is healed."""

from services.common.damage import NAMES_MAX, Damages
from services.common.errors import Reason, ServiceError


def test_damage_is_named_once_and_forgotten_when_healed():
    """From an error's metadata; one that another process answered with is not this one's."""
    damages = Damages()
    error = ServiceError(Reason.ARTIFACT_CORRUPT, "Bytes are damaged.", digest="ab")
    for _ in range(2):
        damages.note_error(error)
    damages.note_error(ServiceError(Reason.ITEM_NOT_FOUND, "There is none."))
    assert damages.told() == [("artifact ab", "Bytes are damaged.")]
    error.is_passed_on = True
    damages.healed("artifact ab")
    damages.note_error(error)
    assert len(damages) == 0


def test_all_are_counted_and_some_told():
    """A list that has an end."""
    damages = Damages()
    for number in range(NAMES_MAX + 5):
        damages.note(f"record items {number}", "It fails its checksum.")
    assert (len(damages), len(damages.told())) == (NAMES_MAX + 5, NAMES_MAX)
