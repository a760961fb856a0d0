"""The folder of backups lasts."""

from services.state.backup import folder as module
from services.state.backup.folder import BackupFolder


def test_the_name_of_the_folder_is_flushed(tmp_path, monkeypatch):
    """A power cut after a backup was answered would else take all of them, folder and all."""
    flushed = []
    monkeypatch.setattr(module, "_flush", flushed.append)
    BackupFolder(tmp_path / "backups").close()
    assert flushed == [tmp_path]
