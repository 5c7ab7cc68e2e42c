"""Cards of a header -> the words of the house: when, how long, with what, what kind; translated once, at the door.

Every capture program writes its own dialect. Times become UTC at the moment the shutter opens: a full ``UT-OBS`` wins,
a ``DATE-OBS`` with a zone suffix (``-0700``) is shifted, MJD is the last resort because programs round it. Exposures
accept decimal commas and the microseconds of ``EXPOINUS``. Temperatures above 150 are Kelvin. ``EGAIN`` is e-/ADU;
``GAIN`` only where its comment says so (elsewhere it is a setting of the sensor). The colour filter pattern is turned
until it is true for pixel (0, 0) of the file. Sources: FITS Standard 4.0 section 9; SBFITSEXT 1.0 (EGAIN, PEDESTAL);
headers of Seestar, ASIImg, N.I.N.A., MaxIm DL, MicroObservatory.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from getframes_xr.core.cfa import CFA_PATTERNS, moved_cfa
from getframes_xr.core.wcs_text import wcs_text
from getframes_xr.io.fits import Cards

NOT_A_TIME: Final = np.datetime64("NaT", "ns")
KINDS: Final = ("light", "dark", "flat", "bias", "flat_dark", "master", "product")

_SETTING_WORDS: Final = ("setting", "brightness", "sensor offset", "camera offset", "offset value", "offset setting")
_DRIVER_PROGRAMS: Final = (
    "n.i.n.a",
    "nina",
    "asiimg",
    "asistudio",
    "asiair",
    "sharpcap",
    "firecapture",
    "ekos",
    "kstars",
)
_ELECTRON_UNITS: Final = re.compile(r"e-?\s*(/|per)\s*(adu|dn|count)|electrons?\s*(/|per)", re.IGNORECASE)
_ZONE: Final = re.compile(r"([+-])(\d\d):?(\d\d)$")
_OLD_DATE: Final = re.compile(r"^(\d\d)/(\d\d)/(\d\d)$")
_DATE_ONLY: Final = re.compile(r"^\d{4}-\d\d-\d\d$")
_WORDS_OF_KINDS: Final = (
    ("flat_dark", re.compile(r"flat[\W_]*darks?|dark[\W_]*flats?", re.IGNORECASE)),
    ("bias", re.compile(r"(?<![a-z])(bias(es)?|zeros?|offsets?)(?![a-z])", re.IGNORECASE)),
    ("dark", re.compile(r"(?<![a-z])darks?(?![a-z])", re.IGNORECASE)),
    ("flat", re.compile(r"(?<![a-z])(flats?|(sky|dome)[\W_]*flats?|flatfields?)(?![a-z])", re.IGNORECASE)),
    ("light", re.compile(r"(?<![a-z])(lights?|objects?|science|sci)(?![a-z])", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What one header says, in our words; NaN, NaT or None where it says nothing.

    ``start`` is UTC at shutter opening; ``offset_counts`` a pedestal in counts of the sensor (which may be a fraction
    of a file ADU step, see ``io.levels``); ``notes`` are the oddities that were put right.
    """

    start: np.datetime64
    exposure_s: float
    kind: str | None
    gain_e_per_adu: float
    read_noise_e: float
    bias_adu: float
    offset_counts: float
    saturation_adu: float
    temperature_c: float
    airmass: float
    filter: str | None
    cfa: str | None
    wcs: str | None
    object: str | None
    camera: str | None
    telescope: str | None
    gain_setting: str | None
    plate_scale_arcsec_per_px: float
    notes: tuple[str, ...]


def facts_of(cards: Cards, rows: int | None = None) -> FrameFacts:
    """Read one header.

    Parameters
    ----------
    cards : of the image's HDU (with the primary's behind them)
    rows : height of the image, needed to turn the pattern of a file stored bottom-up
    """
    notes: list[str] = []
    exposure_s = _exposure_s(cards, notes)
    bias_adu, offset_counts = _pedestal(cards)
    return FrameFacts(
        start=_start(cards, notes),
        exposure_s=exposure_s,
        kind=kind_in_header(cards),
        gain_e_per_adu=_gain(cards, notes),
        read_noise_e=_first_number(cards, "RDNOISE", "READNOIS", "RON"),
        bias_adu=bias_adu,
        offset_counts=offset_counts,
        saturation_adu=_first_number(cards, "SATURATE", "SATLEVEL", "SATURATI"),
        temperature_c=_temperature_c(cards, notes),
        airmass=_airmass(cards),
        filter=_name(cards, "FILTER", "FILTER1", "FILTNAM1"),
        cfa=_cfa(cards, rows, notes),
        wcs=wcs_of(cards),
        object=_name(cards, "OBJECT"),
        camera=_name(cards, "INSTRUME", "CAMERA", "DETECTOR"),
        telescope=_name(cards, "TELESCOP"),
        gain_setting=cards.text("GAIN"),
        plate_scale_arcsec_per_px=_plate_scale(cards),
        notes=tuple(notes),
    )


def _name(cards: Cards, *keys: str) -> str | None:
    for key in keys:
        text = cards.text(key)
        if text is not None and text.lower() not in {"none", "n/a", "unknown", "null"}:
            return text
    return None


def _first_number(cards: Cards, *keys: str) -> float:
    for key in keys:
        number = cards.number(key)
        if number is not None and number > 0:
            return number
    return math.nan


# Time


def _start(cards: Cards, notes: list[str]) -> np.datetime64:
    scale = (cards.text("TIMESYS") or "UTC").upper()
    for key in ("UT-OBS", "DATE-BEG", "DATE-OBS", "DATE_OBS", "DATE-STA"):
        text = cards.text(key)
        if text is None:
            continue
        text = _with_clock(cards, text) if key.startswith("DATE") else text
        found = parse_time(text)
        if found is None:
            continue
        if _ZONE.search(text) and key != "UT-OBS":
            notes.append(f"{key} is local time with a zone suffix; taken to UTC")
        if key == "UT-OBS" and "DATE-OBS" in cards:
            local = parse_time((cards.text("DATE-OBS") or "").split("+")[0])
            if local is None or local != found or _ZONE.search(cards.text("DATE-OBS") or ""):
                notes.append("UT-OBS taken for the time; DATE-OBS is local")
        return _to_utc(found, scale)
    for key, origin in (("MJD-OBS", 0.0), ("MJD", 0.0), ("JD", 2400000.5), ("JD-OBS", 2400000.5)):
        text = cards.text(key)
        number = cards.number(key)
        if text is None or number is None or not 10_000 < number - origin < 200_000:
            continue
        decimals = len(text.partition(".")[2])
        if decimals < 6:
            notes.append(f"time from {key} with {decimals} decimals: up to {43200 * 10.0**-decimals:.3g} s wrong")
        microseconds = round((number - origin - 40587.0) * 86400e6)
        moment: np.datetime64 = np.datetime64(microseconds, "us").astype("datetime64[ns]")
        return moment
    return NOT_A_TIME


def _with_clock(cards: Cards, text: str) -> str:
    """A date without a clock, with the clock of another card."""
    old = _OLD_DATE.match(text)
    if old:
        day, month, year = old.groups()
        text = f"19{year}-{month}-{day}"
    if not _DATE_ONLY.match(text):
        return text
    for key in ("TIME-OBS", "UTSTART", "UT-START", "UTC-OBS", "UT", "UTC", "TIME-BEG", "EXPSTART"):
        clock = cards.text(key)
        if clock is not None and re.match(r"^\d{1,2}:\d\d(:\d\d(\.\d*)?)?$", clock):
            return f"{text}T{clock.rjust(8, '0') if clock.count(':') == 2 and clock[1] == ':' else clock}"
    return text


def parse_time(text: str) -> np.datetime64 | None:
    """ISO time (``T`` or blank, any decimals, ``Z`` or a zone suffix) as UTC, datetime64[ns]; None if it is none."""
    text = text.strip().replace(" ", "T", 1).removesuffix("Z").removesuffix("UTC").strip()
    if "T" not in text and not _DATE_ONLY.match(text):
        return None
    zone = _ZONE.search(text) if "T" in text else None
    shift = 0
    if zone:
        sign, hours, minutes = zone.groups()
        shift = (1 if sign == "+" else -1) * (int(hours) * 60 + int(minutes))
        text = text[: zone.start()]
    found: np.datetime64
    try:
        found = np.datetime64(text, "ns")
    except ValueError:
        found = _leap_or_sixty(text)
    if np.isnat(found):
        return None
    moment: np.datetime64 = found - np.timedelta64(shift, "m")
    return moment


def _leap_or_sixty(text: str) -> np.datetime64:
    """Clocks that read ``:60`` (rounded up by the program) belong to the next minute."""
    match = re.match(r"^(.*T\d\d:\d\d):60(\.\d*)?$", text)
    if match:
        try:
            return np.datetime64(match.group(1) + ":00", "ns") + np.timedelta64(60, "s")
        except ValueError:
            pass
    return NOT_A_TIME


def _to_utc(found: np.datetime64, scale: str) -> np.datetime64:
    if scale not in {"TAI", "TT", "TDT", "TDB", "TCG", "TCB", "GPS"}:
        return found
    from astropy.time import Time, TimeDelta

    moment = Time(found, scale={"TDT": "tt", "GPS": "tai"}.get(scale, scale.lower()))
    if scale == "GPS":
        moment = moment + TimeDelta(19.0, format="sec")
    return np.datetime64(str(moment.utc.isot), "ns")


def _exposure_s(cards: Cards, notes: list[str]) -> float:
    commas = None
    for key in ("EXPTIME", "EXPOSURE", "EXP_TIME", "EXP-TIME", "ITIME"):
        text = cards.text(key)
        if text is None:
            continue
        number = cards.number(key)
        if number is not None and number >= 0:
            return number
        commas = commas or text
    for key, unit in (("EXPOINUS", 1e-6), ("EXPOSNS", 1e-9), ("EXPOSMS", 1e-3)):
        number = cards.number(key)
        if number is not None and number >= 0:
            if commas:
                notes.append(f"EXPTIME {commas!r} is no number; exposure from {key}")
            return round(number / (1 / unit), 12)
    if commas and re.match(r"^\d+,\d+([eE][+-]?\d+)?$", commas):
        notes.append(f"EXPTIME {commas!r} has a decimal comma")
        return float(commas.replace(",", "."))
    return math.nan


# Camera


def _gain(cards: Cards, notes: list[str]) -> float:
    number = cards.number("EGAIN")
    if number is not None and number > 0:
        return number
    number = cards.number("GAIN")
    if number is not None and number > 0 and _ELECTRON_UNITS.search(cards.comment("GAIN")):
        return number
    return math.nan


def _pedestal(cards: Cards) -> tuple[float, float]:
    """(bias in ADU of the file, offset in counts of the sensor); NaN where unknown."""
    number = cards.number("PEDESTAL")
    if number:
        return abs(number), math.nan  # SBFITSEXT: the correction to add, so the pedestal has the other sign
    for key in ("BLKLEVEL", "BLACKLEV", "BLKLVL", "BIASLVL"):
        number = cards.number(key)
        if number is not None and number > 0:
            return number, math.nan
    number = cards.number("OFFSET")
    if number is None or number <= 0:
        return math.nan, math.nan
    comment = cards.comment("OFFSET").lower()
    program = " ".join(cards.text(key) or "" for key in ("SWCREATE", "PROGRAM", "CREATOR", "SOFTWARE")).lower()
    if any(word in comment for word in _SETTING_WORDS) or any(word in program for word in _DRIVER_PROGRAMS):
        return math.nan, math.nan
    return (number, math.nan) if "adu" in comment else (math.nan, number)


def _temperature_c(cards: Cards, notes: list[str]) -> float:
    for key in ("CCD-TEMP", "DET-TEMP", "CCDTEMP", "DETTEMP", "SENSTEMP", "CAMTEMP", "TEMPERAT", "SET-TEMP"):
        number = cards.number(key)
        if number is None:
            continue
        comment = cards.comment(key).lower()
        if number == -1 and "no data" in comment:
            continue
        if number > 150 or "kelvin" in comment:
            notes.append(f"{key} is in Kelvin")
            return number - 273.15
        return number
    return math.nan


def _airmass(cards: Cards) -> float:
    number = _first_number(cards, "AIRMASS", "SECZ")
    if number >= 1:
        return number
    for key in ("CENTALT", "OBJCTALT", "TELALT", "ALT"):  # ELEVATIO is the height of the site
        altitude = cards.number(key)
        if altitude is not None and 3 < altitude <= 90:
            angle = altitude + 244 / (165 + 47 * altitude**1.1)  # Pickering 2002
            return 1 / math.sin(math.radians(angle))
    return math.nan


def _plate_scale(cards: Cards) -> float:
    """From a card, else 206.265 x pixel / focal length; a FOCALLEN of 0 means unknown."""
    stated = _first_number(cards, "IM_SCALE", "PIXSCALE", "SECPIX", "SCALE")
    if not math.isnan(stated):
        return stated
    return 206.264806 * _first_number(cards, "XPIXSZ", "PIXSIZE1") / _first_number(cards, "FOCALLEN")


def _cfa(cards: Cards, rows: int | None, notes: list[str]) -> str | None:
    for key in ("BAYERPAT", "CFA-PAT", "COLORTYP", "CFATYPE"):
        text = (cards.text(key) or "").upper().replace(" ", "")
        if text in CFA_PATTERNS:
            break
    else:
        return None
    if (cards.number("XBINNING") or 1) > 1 and (cards.text("BINMODE") or "").lower() != "same-colour":
        notes.append(f"{key} is kept although the frame is binned; binning of unlike colours makes it void")
    offsets = [cards.number(name) or 0.0 for name in ("XBAYROFF", "YBAYROFF")]
    shifted = moved_cfa(text, -round(offsets[1]), -round(offsets[0]))  # the file's (0, 0) is the pattern's offset
    if (cards.text("ROWORDER") or "").upper() == "BOTTOM-UP":
        notes.append("rows are stored bottom-up; the colour filter pattern was turned")
        height = rows if rows is not None else 0
        if height % 2 == 0:
            shifted = shifted[2:] + shifted[:2]
    return shifted


# Kind


def kind_in_header(cards: Cards) -> str | None:
    """Kind of frame by IMAGETYP and its relatives, None where the header does not say."""
    for key in ("IMAGETYP", "FRAME", "FRAMETYP", "OBSTYPE", "OBS-TYPE", "DATA-TYP"):
        text = cards.text(key)
        if text is not None and text.lower() in {"stack", "stacked", "integration"}:
            return "product"
        found = None if text is None else kind_of_text(text)
        if found is not None:
            return found
    exposure = cards.number("EXPTIME")
    return "bias" if exposure == 0 else None


def kind_of_text(text: str) -> str | None:
    """Kind of frame that a text (card, file name, folder name) names; None if it names none."""
    if re.search(r"(?<![a-z])master", text, re.IGNORECASE):
        return "master"
    for kind, pattern in _WORDS_OF_KINDS:
        if pattern.search(text):
            return kind
    return None


# WCS

_WCS_KEYS: Final = re.compile(
    r"^(C(TYPE|RPIX|RVAL|DELT|UNIT|ROTA)[12]|(PC|CD)[12]_[12]|PV[12]_\d+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX"
    r"|(A|B|AP|BP)_(ORDER|\d+_\d+))$"
)


def wcs_of(cards: Cards) -> str | None:
    """Canonical WCS of a header in absolute pixels, or None: sorted cards ``KEY = value``, one per line.

    Pixel (0, 0) is FITS pixel (1, 1); the file's own first pixel is the absolute origin, so CRPIX stays as it is.
    Only celestial WCS of axes 1 and 2 are kept; a header with RA, DEC and no CTYPE has none.
    """
    kinds = (cards.text("CTYPE1") or "") + (cards.text("CTYPE2") or "")
    if "CRVAL1" not in cards or not ("RA" in kinds or "LON" in kinds):
        return None
    values: dict[str, str | float] = {}
    source: Cards | None = cards
    while source is not None:
        for card in source:
            key = card[:8].decode("latin-1").rstrip()
            if _WCS_KEYS.match(key) and key not in values:
                text = source.text(key)
                if text is None:
                    continue
                name = "RADESYS" if key == "RADECSYS" else key
                number = source.number(key)
                values.setdefault(
                    name, text if number is None or name.startswith(("CTYPE", "CUNIT", "RADE")) else number
                )
        source = source.primary
    if any(key.startswith(("CD1_", "CD2_")) for key in values):
        superseded: tuple[str, ...] = ("PC1_", "PC2_", "CDELT", "CROTA")
    else:
        superseded = ("CROTA",) if any(key.startswith(("PC1_", "PC2_")) for key in values) else ()
    return wcs_text({key: value for key, value in values.items() if not key.startswith(superseded)})


def iso(moment: np.datetime64) -> str:
    """FITS time text with milliseconds (more where the moment has them)."""
    text = str(moment.astype("datetime64[us]"))
    return text[:-3] if text.endswith("000") else text
