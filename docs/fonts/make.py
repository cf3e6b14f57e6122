"""Makes math.woff2 of Latin Modern Math: `python docs/fonts/make.py latinmodern-math.otf`.

Needs fonttools and brotli. The original is in Debian's package fonts-lmodern 2.005, and at
http://www.gust.org.pl/projects/e-foundry/lm-math. What is changed, and the licence: LICENSE.txt.
"""

import sys
from pathlib import Path

from fontTools import subset

NAME = "ncvq_nb Math"  # the licence asks for another name
CHARACTERS = """20-7e a0 ac af b1 b7 d7 f7 131 237 2016 2020 2026 2032-2034 2061-2064 20d7 300-30c
332 338 2dc 2c6 203e 2015 391-3a9 3b1-3c9 3d1 3d5 3d6 3f1 3f5 2102 210b 210e 2110-2113 2115 2119
211b 211d 2124 212c 2130 2131 2133 2190-2194 21a6 21d0-21d4 2200-222d 2234-2237 223c 2243 2245 2248
2260-2265 226a 226b 2282-2287 2295-2299 22a2-22a5 22c5 22ee-22f1 2308-230b 23dc-23e1 27e8 27e9 29f5
2a00-2a02 1d434-1d467 1d49c-1d4b5 1d538-1d551 1d6a4 1d6a5 1d6e2-1d71b 1d7d8-1d7e1"""
TALLEST = 2200  # thousandths of an em


def rename(font):
    for record in [*font["name"].names]:
        new = {1: NAME, 3: f"{NAME}, made of {record}", 4: NAME, 6: "ncvqnb-Math"}
        if record.nameID in new:
            where = record.platformID, record.platEncID, record.langID
            font["name"].setName(new[record.nameID], record.nameID, *where)
    cff = font["CFF "].cff
    cff.fontNames = ["ncvqnb-Math"]
    cff.topDictIndex[0].FullName = cff.topDictIndex[0].FamilyName = NAME


def trim(font):
    "Chromium gives a delimiter that may grow the width of its largest form: none needs those."
    variants, cmap = font["MATH"].table.MathVariants, font.getBestCmap()
    for character in "()[]⌊⌋⌈⌉⟨⟩":
        place = variants.VertGlyphCoverage.glyphs.index(cmap[ord(character)])
        forms = variants.VertGlyphConstruction[place]
        kept = [v for v in forms.MathGlyphVariantRecord if v.AdvanceMeasurement < TALLEST]
        forms.MathGlyphVariantRecord, forms.VariantCount = kept, len(kept)
        forms.GlyphAssembly = None


def main(source):
    options = subset.Options()
    options.layout_features, options.hinting, options.desubroutinize = ["ssty"], False, True
    options.flavor, options.name_IDs = "woff2", [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.drop_tables += ["FFTM"]
    font = subset.load_font(source, options)
    made = subset.Subsetter(options)
    made.populate(unicodes=subset.parse_unicodes(CHARACTERS))
    made.subset(font)
    rename(font)
    trim(font)
    subset.save_font(font, str(Path(__file__).with_name("math.woff2")), options)


if __name__ == "__main__":
    main(*sys.argv[1:])
