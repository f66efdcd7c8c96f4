"""A small web page over the published set: search by words, by sound, by song, between meaning and taste."""
