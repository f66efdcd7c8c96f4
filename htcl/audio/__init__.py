"""Audio: decoding to 16 kHz mono, log-mel features, short previews."""
