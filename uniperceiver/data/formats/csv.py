"""A table as spreadsheets and pandas write it: "..." around a cell lets it hold delimiters, line breaks, and "" for
a quotation mark (RFC 4180)."""

from pathlib import Path

from pydantic import Field

from uniperceiver.data.formats.columns import Columns, ColumnsData
from uniperceiver.data.formats.delimited import Dialect, open_delimited
from uniperceiver.data.formats.files import list_files
from uniperceiver.data.formats.rows import open_all
from uniperceiver.strict import record


@record
class CsvSource(Columns):
    """A sample per row. Without a header, columns are named by their number: "0", "1", ..."""

    path: str | tuple[str, ...]
    """A file, a folder of .csv files, a pattern such as part-{00..12}.csv or part-*.csv, or a list of these."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """The character between columns."""
    header: bool = True
    """The first row names the columns."""

    def __post_init__(self) -> None:
        if self.delimiter in '"\r\n':
            raise ValueError("delimiter cannot be a quotation mark or a line break; use one of , ; | or a tab")

    def open(self, base: Path, where: str) -> ColumnsData:
        """Find the rows and read their labels."""
        wanted, files = self.wanted(where), list_files(base, self.path, ".csv", where)
        dialect = Dialect(delimiter=self.delimiter, quotes=True, header=self.header)
        rows = open_all(files, lambda file, name: open_delimited(file, name, dialect, wanted, where))
        return self.samples(rows, files[0].parent, base, where)
