"""A table whose columns are separated by tabs, as GLUE has them: quotation marks are ordinary characters."""

from pathlib import Path

from uniperceiver.data.formats.columns import Columns, ColumnsData
from uniperceiver.data.formats.delimited import Dialect, open_delimited
from uniperceiver.data.formats.files import list_files
from uniperceiver.data.formats.rows import open_all
from uniperceiver.strict import record


@record
class TsvSource(Columns):
    """A sample per line. Without a header, columns are named by their number: "0", "1", ..."""

    path: str | tuple[str, ...]
    """A file, a folder of .tsv files, a pattern such as part-{00..12}.tsv or part-*.tsv, or a list of these."""
    header: bool = True
    """The first row names the columns."""

    def open(self, base: Path, where: str) -> ColumnsData:
        """Find the rows and read their labels."""
        wanted, files = self.wanted(where), list_files(base, self.path, ".tsv", where)
        dialect = Dialect(delimiter="\t", quotes=False, header=self.header)
        rows = open_all(files, lambda file, name: open_delimited(file, name, dialect, wanted, where))
        return self.samples(rows, files[0].parent, base, where)
