"""The word lists of the rules that stand in for a rater; English, chosen by hand."""

from __future__ import annotations

from typing import Final

__all__ = ["BOILERPLATE", "CONNECTIVES", "DOMAIN_WORDS", "FUNCTION_WORDS", "HARSH", "TEACHING"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS: Final = _words(
    "the of and to in a is that it was for on are as with his they at be this from have or by one had not but"
    " what all were when we there can an your which their said if do will each about how up out them then she"
    " many some so these would other into has her two him could than been its who did may more no my he i you"
)
CONNECTIVES: Final = _words(
    "because therefore however thus although hence since while whereas moreover furthermore consequently"
    " instead nevertheless finally first second then unless despite"
)
TEACHING: Final = _words(
    "example examples definition define defined means explain explains explained understand learn learning"
    " lesson chapter section exercise exercises problem problems solution question questions answer theory"
    " theorem figure table concept concepts principle method study student students teacher school science"
    " history experiment process describe compare called known because therefore"
)
BOILERPLATE: Final = _words(
    "cookie cookies subscribe newsletter login signup password click menu sitemap copyright privacy advertise"
    " cart checkout unsubscribe facebook twitter instagram pinterest javascript browser popup homepage"
)
HARSH: Final = _words("porn porno xxx nude escort casino viagra betting slut whore fuck fucking shit bitch")

DOMAIN_WORDS: Final = {
    "A": _words(
        "patient patients disease diseases doctor medical medicine symptoms treatment clinical blood cancer"
        " drug drugs hospital therapy infection diagnosis health"
    ),
    "B": _words("bank market stock shares investment investors loan interest tax fund economy inflation"),
    "C": _words("court law legal judge plaintiff defendant statute contract liability attorney clause shall"),
    "D": _words("student students teacher school university lesson exam curriculum learning classroom"),
    "E": _words("device hardware engine sensor chip battery electronic technology technologies robot energy"),
    "F": _words("film movie song music band actor game games player album show series team season"),
    "G": _words("theorem proof equation integer matrix polynomial lemma algebra vector integral prime"),
    "H": _words(
        "function def return import class int var const string array null void self code python java bool"
        " struct async print std"
    ),
    "I": _words("government minister parliament election policy president congress senate committee public"),
    "J": _words("art culture church god novel poem painting museum century religion literature king"),
    "K": _words("car train road vehicle vehicles traffic airport ship driver railway bus route flight"),
    "L": _words("shop buy price product products customer order sale shipping store brand discount"),
    "M": _words("network protocol packet server client wireless phone mobile signal antenna internet"),
    "N": _words("crop crops farm farmer farmers soil plant plants harvest wheat cattle seed irrigation"),
}
"""By the letter of DataMan's domains; O, other, has none."""
