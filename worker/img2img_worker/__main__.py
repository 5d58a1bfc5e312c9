"""``python -m img2img_worker``: what ``img2img worker`` starts."""

from img2img_shared.interrupts import loading

with loading():
    from img2img_worker.farm.cli import main

if __name__ == "__main__":
    main()
