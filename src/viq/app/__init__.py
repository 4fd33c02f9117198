"""The web page: pictures as codes, to look at, to ask about, and to change."""
