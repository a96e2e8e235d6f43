"""What all pages and figures have in common: numbers, series, colours, pictures, the page itself."""
