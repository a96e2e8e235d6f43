"""The version of the library, which a run writes into its log."""

VERSION = "0.1.0"
