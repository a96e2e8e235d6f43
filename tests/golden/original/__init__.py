"""A second opinion: the original release's arithmetic, written from its description alone, without uniperceiver."""
