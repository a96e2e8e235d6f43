"""Pictures with what was found in them, written into a folder of their own."""

from pathlib import Path

from uniperceiver.atomic import whole_file
from uniperceiver.errors import UserError
from uniperceiver.records.regions import Detections
from uniperceiver.serving.regions.draw import decoded, draw


class DrawnPictures:
    """Write a picture for each file that was asked about.

    Args:
        folder: where; made when the first picture is there.

    Raises:
        UserError: it is a file, or holds something already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._names = folder, set[str]()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--draw {folder}: is there and not an empty folder; name a new one")

    def add(self, file: Path, answer: Detections) -> Path:
        """Draw the things into the picture of a file; two files of one name are told apart by a number.

        Raises:
            UserError: the disk does not take it.
        """
        name, number = file.stem, 1
        while name in self._names:
            number += 1
            name = f"{file.stem}-{number}"
        self._names.add(name)
        image = decoded(file.read_bytes(), str(file), answer.size)
        path = self.folder / f"{name}.png"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as stream:
                draw(image, answer).save(stream, format="PNG")
        except OSError as error:
            raise UserError(
                f"--draw {path}: could not be written ({error}); free space, or name another folder"
            ) from None
        return path
