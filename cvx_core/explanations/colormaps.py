"""Color maps: the two of cvx, readable with any color vision, and those of matplotlib by name.

inferno (Smith and van der Walt 2015, CC0) for maps that can't be negative; vik (Crameri 2018,
doi:10.5281/zenodo.1243862, MIT licence, copyright (c) 2023 Fabio Crameri) for signed maps: blue
against, white nothing, red for.
"""

from __future__ import annotations

import base64
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cvx_core._util.environment import optional_module
from cvx_core.errors import OptionError, did_you_mean, install_command

_INFERNO = (
    "000C500jX71_1#G0s#sF0t^BI4g&%Z1OpNT0~7@W7X}0w2L&4l1sw?n9|{K|3kM_&2qp~(DGmuM5D6_23NR81G879m6$"
    ">{O3pp4JJQ)l=8w^1l3_~6aMIQ`EAq+|*3``^pPbLgeC<{|53sox%S1k)!FA7^R3S2S@UNj0{HVI)k31T@3V>=0CJqcw"
    "#31&bFXF>{SL<(p{3Ta0RYDo)fN(^gE3~NmdY)=hrQ4VZU4sBEqZB-9#R}gMl5N=u#Zd?*>T@r3z6K-J>ZekQ}WEE~@6"
    ">eu1ZfO>7Y8P&77;bGCZf_ZGaT#uM8g6tNZgm@OcN}ea9Bq0XZG0VVeI9Lp9&CUgY=R(cgdl5$A!~;rYltFhiXv)^BWa"
    "BzX^$jnkR@o6C1{f-XO$*rmnUYJCuW)`Wt%Bvohf9WDr2B3W1=f!qby;iEMTTBV5lx%sV-itFJ7%MU9K=(urXV)GFr1T"
    "TC_7+wlr9`HCMScR=PG-yf;+6I8(nlQouS<!8%aGJ5R(sPR2b=$39HRKTFC$O3Oh>%tA=cLr2d<M$kn?(ndtnM?=&|Le"
    ")w^*GoUxOg`C7J=#t@+fX~*Q99mIINwt@;8ix^RyE>RG~-z_<XSQ1TrlQcFXvt^=wL1BVJqrmD(hq^>t-nIXD01wCGKh"
    "@?`$LQZXxh*An|b@@pB#WbR6?`8}oP>^m!Qddl&V67507<_J9-jf)e+H5cq`;_=gVoi46IR3;B!+`Hl(tkO=yc2l|u;`"
    "<4d#mj?Tp2K$=^`<(~;p9lP*2>hc7{G|%~rVRY34g9JP{HziDt`hvP6#TLl{InSRwi^4m9s9Z;`@A9hz9ag;Ci=oC`ot"
    ">w#x42BFZszb`O7u<%{TbZI``2%_tQZ3)kF5zM)lcA_1jGJ-B0x2Q}p3h^W$3c<z4dTVe;r@^6F{v>}~Pwaq;hU@$q@`"
    "@_q93g7fu;^Y)7L_>T4YlJ@$R`1_jq{GIy!q5S`("
)

_VIK = (
    "01{yV6k-7tV*wXr0T^Wg8fF3<X968)0v~AtAZh|4YXT!|0wrw%CvE~LZvrZC0xNL>Eph@ba{@4Q0x@+0Gj;+rcLFwe0y"
    "lXAIeG#*djmXt13rBNKYjy2e*;2*14MxXMS=rIg9Ax~14@MiOojwahXhZE1yP9wQi=vtiw0JV2Um><S&s=@kPBUr3|^8"
    "BV3QDHlo4c>6K0ncXP6ghnHg)E9BrH)Z=E1<o+ERhC3T@FccLqKq%C`;Fny*of2cNrsX2qIJcX=3hpj@1uSJWnNR6^fk"
    "h4ybv{96{RF=0_n7LY-x?P;RVV=EYpuT6Kz-pwyZKlF;sKj)t#doa6dalTQu*rb3%7nDchqld%xXz8b(2%^*l)loJz|@"
    "+;)t$uFpvBmu$JwXJ+N#Ukt<BxA&)&1q-?r1?y4B*n*5km~<ipzK#@pt}-RI2T=+EHj(&6dV<LTJs>D%S$-sb7x=IP?+"
    "=;i0==jZ3>=jH0=<m=|*?B(F?<lgS%-0tDp?%>$&-qr5i)9%~Q?%B=l*URnI$n4X_?9s#P(7@`>z3I%l>B_k1$hGIjvg"
    "X9F<-x7wzpCWEsN=k);<}>YxS-&+o!_*Y-?EtAu$A4eliaM3+p3M*sEgXBh}oou*rJ2ipn=w(e%76Q)th<LnRnBdbkmh"
    "`(v)z~l5NnCYtN2o&x~fyi)77-Va$hL%!OUcgIdahSjm7^$$nGFd{M`HPsVvn#&=4^bx6c?MZ<DK!f-*tZa=|oJiu!@z"
    "iBwWXEwfNGreRnykalAU@f{{D!5!Iw^}B)SR}PoA+u8-vQZtdPaCgH7_CYct4I{7MG~h&5T!s5qdpCxJPV&W3Y<3ynl%"
    "WRGY6J22b3=cku3&~D+Y}z28$;Ki6#bzBnE{d27@66fgc8c9tM6L27DU^dKw0J7zTD126Pn$a})+~69;b*2W=1sYz_x%"
    "4F_lp2WJWgWeEpk2M1yX2VevUUIPeS0tj0H2w4CK"
)


def _table(text: str) -> npt.NDArray[np.uint8]:
    table = np.frombuffer(base64.b85decode(text), dtype=np.uint8).reshape(256, 3)
    table.setflags(write=False)
    return table


INFERNO = _table(_INFERNO)
"""uint8 (256, 3), from black over red to pale yellow."""

VIK = _table(_VIK)
"""uint8 (256, 3), from blue over white to red."""

_OWN = {"inferno": INFERNO, "vik": VIK}

_DIVERGING = frozenset(
    "PiYG PRGn BrBG PuOr RdGy RdBu RdYlBu RdYlGn Spectral coolwarm bwr seismic "  # noqa: SIM905
    "broc cork vik lisbon tofino berlin roma bam vanimo managua".split()
)
"""Color maps of matplotlib and cmcrameri whose middle stands for zero."""


def is_diverging(name: str) -> bool:
    """Whether the middle of a color map stands for zero, so that its scale is symmetric.

    Examples
    --------
    >>> is_diverging("RdBu_r"), is_diverging("jet")
    (True, False)
    """
    return name.removeprefix("cmc.").removesuffix("_r") in _DIVERGING


@cache
def color_table(name: str) -> npt.NDArray[np.uint8]:
    """Return the 256 colors of a color map.

    Parameters
    ----------
    name
        ``"inferno"`` or ``"vik"``; with matplotlib one of its own (``"magma"``), and with cmcrameri
        one of Crameri's (``"batlow"`` or ``"cmc.batlow"``). ``_r`` at the end reverses it.

    Returns
    -------
    numpy.ndarray
        uint8 (256, 3), from low to high. Read-only.

    Raises
    ------
    OptionError
        If the color map is unknown, or its package is not installed.
    """
    bare = name.removeprefix("cmc.")
    plain = bare.removesuffix("_r")
    crameri, matplotlib = _crameri(), optional_module("matplotlib")
    if plain in _OWN:
        table = _OWN[plain][::-1] if bare != plain else _OWN[plain]
    elif matplotlib is not None and bare in matplotlib.colormaps:
        table = matplotlib.colormaps[bare](np.linspace(0.0, 1.0, 256))[:, :3]
        table = np.round(table * 255).astype(np.uint8)
    elif plain in crameri:
        rows = np.loadtxt(crameri[plain], dtype=np.float64, ndmin=2)
        table = np.round(rows[np.linspace(0, len(rows) - 1, 256).round().astype(int)] * 255)
        table = table.astype(np.uint8)[:: -1 if bare != plain else 1]
    else:
        known = [*_OWN, *crameri, *(matplotlib.colormaps if matplotlib else ())]
        raise OptionError(
            f"Unknown color map: {name!r}.",
            did_you_mean(name, known)
            or "Any name of matplotlib or cmcrameri works, such as 'magma' or 'batlow'."
            if matplotlib
            else f"Without matplotlib: {', '.join(known)}. "
            f"Install it: {install_command('matplotlib')}",
        )
    table = np.array(table)
    table.setflags(write=False)
    return table


@cache
def _crameri() -> dict[str, Path]:
    # Importing cmcrameri imports pyplot, which picks a backend and keeps state; its tables are
    # text files beside the code.
    spec = find_spec("cmcrameri")
    folders = (spec.submodule_search_locations if spec else None) or []
    return {
        file.stem: file
        for folder in folders
        for file in sorted((Path(folder) / "cmaps").glob("*.txt"))
    }
