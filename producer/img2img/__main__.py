"""``img2img``, and ``python -m img2img``."""

from img2img_shared.interrupts import loading

with loading():
    from img2img_producer.cli import main

if __name__ == "__main__":
    main()
