"""The program ``img2img``, apart from what it imports: so that Ctrl-C is quiet from its first moment on."""

# what `signal` is made of, and there from the start: to import that takes as long as it takes to hit Ctrl-C
import _signal  # type: ignore[import-not-found]  # CPython's own, which has no stub

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
