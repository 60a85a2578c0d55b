"""Makes the papers that are sealed: small ones of text, and one of images that do not compress.

usage: inputs.py FOLDER
"""

import io
import random
import sys

from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas

folder = sys.argv[1]
noise = random.Random(7)


def text(name, pages):
    drawing = canvas.Canvas(f"{folder}/{name}.pdf", invariant=1)
    for page in range(pages):
        for line in range(40):
            clause = f"Clause {page + 1}.{line + 1}: the parties agree on this matter in the words that stand here."
            drawing.drawString(60, 780 - 18 * line, clause)
        drawing.showPage()
    drawing.save()


def images(name, pages):
    drawing = canvas.Canvas(f"{folder}/{name}.pdf", invariant=1)
    for _ in range(pages):
        jpeg = io.BytesIO()
        Image.frombytes("RGB", (600, 600), noise.randbytes(600 * 600 * 3)).save(jpeg, "JPEG", quality=85)
        drawing.drawImage(ImageReader(jpeg), 50, 100, 480, 480)
        drawing.showPage()
    drawing.save()


text("1-page", 1)
text("10-pages", 10)
images("10-mb", 30)
