"""``python -m img2img_gateway``: what ``img2img gateway`` and ``img2img key`` start."""

from img2img_shared.interrupts import loading

with loading():
    from img2img_gateway.commands import main

if __name__ == "__main__":
    main()
