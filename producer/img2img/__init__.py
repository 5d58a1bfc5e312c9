"""The program ``img2img``, apart from what it imports: so that Ctrl-C is quiet from its first moment on."""
