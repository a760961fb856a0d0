"""What a process does with backups until it is killed: `python -m tests.crash.backup_story`.

Arguments: the folder, what to do (`create`, `restore`, `delete`, `retain`, `import`), and a backup,
or, of an import, the path of an archive.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from services.common.clock import SystemClock
from services.state.backup.folder import BackupFolder
from services.state.backup.retention import Retention
from services.state.backup.service import Backups
from services.state.backup.transfer import Transfer
from tests.state_engines import embedded_keeper


async def main(folder: Path, action: str, backup_id: str) -> None:
    """Do it for tenant `a`."""
    keeper = embedded_keeper(folder / "state", SystemClock())
    backups = Backups(keeper, BackupFolder(folder / "backups"))
    if action == "create":
        await backups.create("a")
    elif action == "restore":
        await backups.restore("a", backup_id, any_tenant=False, backup_current=False)
    elif action == "import":
        transfer = Transfer(backups)
        with transfer.aside() as aside:
            with aside.writing() as file:
                file.write(Path(backup_id).read_bytes())
            await transfer.import_tenant("a", aside, replace=True, dry_run=False)
    elif action == "delete":
        await backups.delete("a", backup_id, any_tenant=False)
    else:
        backups.retention = Retention(count=1)
        await backups.sweep()
    os.write(1, b"done\n")
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
