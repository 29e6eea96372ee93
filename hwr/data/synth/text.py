"""What a drawn line says: text filled in from templates, with every character of the original 80 but the backslash."""

import re
import string

import numpy as np

SHORTEST, LONGEST = 8, 45  # characters of a line

SENTENCES = """{Who} {did} the {adj} {noun} {when}.|{Who} {did} a {adj} {noun} and {did} the {noun} {where}.
{Who} said that the {noun} was {adj}, but {who} {did} it {how}.|It was {adj}, and {who} {did} {n} {noun}s {how}.
"{Adv}," said {who}, "the {noun} is {adj}!"|"Who {did} my {noun}?" asked {Name}.|{Why} {who} {did} the {noun}?
{Who} didn't know {why} the {noun} wasn't {adj}.|{Name}'s {noun} is {where}; {who} {did} it {when}.
Don't {do} the {noun}: it's {adj}!|Can't we {do} the {noun} {when}?|We'll {do} {n} {noun}s, won't we?|{do} it {how}!
On {day} {month} {year} {who} {did} a {noun} {where}.|{weekday}, {day}/{mon}/{yy}: {did} {n} {noun}s {where}.
{Name} (born {year}, {Place}) {did} the {noun}.|They paid {n}.{nn} for {n} {noun}s & {big} for the {noun}.
{Place}, {month} {day}, {year}.|Dear {Title} {Family}, the {noun} is {where}.|Yours, {X}. {X}. {Family}
{Title} {Family} & Sons sell {mass}, {mass} and/or {mass}.|Flat #{n}{X}, {big} {Family} Street, {Place} {X}{d} {n}{X}
* see page {n} (and note {d}); also {X}-{n}.|The {noun}* was {adj} ({who} {did} it {how}).|{n} + {n} is {n}; {n} + {d}?
Call {Name} at {h}:{nn}, tel. {big}-{big}.|The {h}:{nn} from {Place} to {Place} {did} the {noun}.|Lot #{n} ({mass})
{Title} {Family} lives at {n} {Family} Road, {Place}.|{n}-{n} {noun}s; {n}/{n} {noun}s: {adj}, {adj} + {adj}.
{CAPS}: {CAPS} {CAPS} #{n}!|{CAPS} & {CAPS} ({year})|{CAPS} {CAPS} {CAPS}.|Item #{n}: {mass} ({big} g) * {d} + {mass}.
{Title} {X}. {Family}'s {adj}, {adj} {noun}; {Name}'s {mass}.|Half {adj}, half {adj}: {how} {who} {did} the {noun}.
Mix {n} g of {mass} with {mass}, {mass} and {mass}.|{Adv} {who} {did} {where}, {how} and {how}.|{Who} {did} the {mass}.
{Name} and {Name} {did} the {noun} from {Place} {when}.|Is the {noun} {adj}? "{Adv}," {Name} said."""

# What may stand for a {slot} of a sentence, or of another slot's words.
WORDS = {
    "Who": "{Name}|{Name} {Family}|{Title} {Family}|{He}|The {adj} {person}|My {rel}|Every {person}|Nobody",
    "who": "{Name}|{Name} {Family}|{Title} {Family}|{he}|the {person}|my {rel}|his {rel}|our {person}|I",
    "He": "He|She|They|We|You|I|It|Someone|Everyone",
    "he": "he|she|they|we|you|I|someone|nobody",
    "Name": "Adam|Anna|Beth|Boris|Clara|Colin|Dora|Derek|Edith|Emil|Frank|Fiona|Grace|Gavin|Gwen|Hazel|Hugo|Ines|Ivan|"
    "Jack|Julia|Kate|Karl|Kim|Laura|Leo|Maria|Max|Nora|Nick|Olive|Oscar|Paula|Pieter|Quinn|Quentin|Rosa|Ralph|Sarah|"
    "Simon|Tina|Thomas|Uma|Ulric|Vera|Victor|Vic|Wendy|Walter|Xenia|Xavier|Ximena|Yusuf|Yvonne|Zoe|Zachary|Zita",
    "Family": "Abbott|Becker|Cox|Dixon|Evans|Frazer|Grant|Gibson|Hughes|Irving|Jarvis|Kovacs|Keller|Lopez|Mackey|Nolan|"
    "Ortiz|Price|Quigley|Quayle|Rhodes|Suzuki|Tyler|Underhill|Vaughan|Vance|Wright|Xiang|Xu|Young|Zeller|Zimmer|O'Neil|"
    "D'Arcy|Hart-Jones",
    "Place": "Athens|Bergen|Cadiz|Derby|Exeter|Falmouth|Ghent|Galway|Havre|Izmir|Jersey|Kyoto|Kiel|Leeds|Milan|Nantes|"
    "Oxford|Paris|Quebec|Quimper|Riga|Salzburg|Turin|Utrecht|Vienna|Vigo|Wexford|Xanten|York|Zagreb|Zurich",
    "Title": "Mr.|Mrs.|Miss|Dr.|Prof.|Aunt|Uncle|Judge",
    "rel": "brother|sister|cousin|uncle|nephew|niece",
    "person": "doctor|teacher|neighbour|judge|baker|sailor|captain|lawyer|gardener|porter|vicar|queen|king|major|clerk",
    "did": "bought|found|took|sold|moved|fixed|painted|wrote|lost|kept|carried|opened|examined|forgot|sketched|packed|"
    "measured|quoted|joined|wanted|liked|burnt|seized|broke|hid|gave away|looked for|thought about|jumped over|saw",
    "do": "buy|find|take|sell|move|fix|paint|write|lose|keep|carry|open|examine|forget|sketch|measure|pack|quote|join",
    "adj": "old|new|small|large|quiet|quick|lazy|dizzy|dusty|heavy|exact|equal|jolly|strange|yellow|green|brown|purple|"
    "wooden|empty|broken|dark|bright|cheap|frozen|amazing|complex|unique|major|warm|wet|narrow|hollow|wild|queer|vexed",
    "noun": "house|garden|letter|window|jacket|table|book|clock|picture|bridge|boat|horse|magazine|question|project|"
    "engine|ticket|village|river|kitchen|hotel|piano|lamp|map|wheel|basket|zebra|axle|quilt|jewel|object|prize|taxi|"
    "puzzle|hammer|violin|chair|flower|pocket|bicycle|machine|king|yacht|quarter|carpet|stamp|newspaper|jar|lizard",
    "mass": "jam|milk|wheat|sugar|maize|oxtail|quinces|flax|zinc|wax|juice|pizza|tea|rye|honey|figs|olives|bread",
    "when": "yesterday|last week|in {month}|at {h}:{nn}|on {weekday}|before {year}|in {year}|on the {n}th|next week|"
    "this morning|after dinner|just in time|every {weekday}|for {n} years|once again|six days ago|since {h} o'clock",
    "where": "in {Place}|near {Place}|at home|by the river|under the {noun}|behind the {noun}|on the {adj} {noun}|"
    "next to the {noun}|in room {n}|over there|at the zoo|at no. {n}|in the box|outside {Place}",
    "how": "quickly|slowly|with great care|just for a joke|without a word|very well|too late|by mistake|in six minutes|"
    "expertly|for {Name}|as usual|with {Name}'s {noun}|half-heartedly|in a {adj} way|with zeal|by taxi",
    "Adv": "Yes|No|Perhaps|Of course|Indeed|However|Exactly|Quite so|At last|Then|Later|Again|Zounds|Just now",
    "Why": "Is it true that|Do you know why|Do you think|What if|How come",
    "why": "why|when|how|where|whether",
    "CAPS": "NOTICE|QUEUE|EXIT|BEWARE|OPEN|JUMBLE SALE|ZOO|KEEP|WANTED|FIRST|OFFICE|PLEASE|TAXI|VALUE|MUSIC|JOB|QUIZ|"
    "WEEKLY|BOX|KITCHEN|PRIVATE|FIXED|GARDEN|MILK|HUGE|DANCING|JULY|QUAY|VAN|BAZAAR|YACHT|RHUBARB|CHAPTER|FLOUR",
    "month": "January|February|March|April|May|June|July|August|September|October|November|December",
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "X": "|".join(string.ascii_uppercase),
}
# Slot -> lowest, highest, and least number of digits.
NUMBERS = {
    "d": (0, 9, 1),
    "n": (2, 99, 1),
    "nn": (0, 59, 2),
    "h": (1, 12, 1),
    "day": (1, 28, 1),
    "mon": (1, 12, 1),
    "yy": (0, 99, 2),
    "year": (1700, 2029, 1),
    "big": (100, 9999, 1),
}
ABBREVIATIONS = {"Mr.", "Mrs.", "Dr.", "Prof.", "no.", "tel."}


def compose(rng: np.random.Generator) -> str:
    """A line of running English text as it falls between two line breaks: 8 to 45 characters of the original 80."""
    words = " ".join(_sentence(rng) for _ in range(4)).split(" ")
    # Half of the lines open a paragraph; the others start somewhere within its first sentence.
    words = words[rng.integers(2) * rng.integers(6) :]
    wanted = rng.triangular(12, 30, LONGEST - 1)
    line = words[0]
    for word in words[1:]:
        if len(line) >= SHORTEST and len(line) + 1 + len(word) > wanted:
            break
        line += " " + word
    return line


def _sentence(rng: np.random.Generator) -> str:
    def fill(match: re.Match[str]) -> str:
        slot = match[1]
        if slot in WORDS:
            choices = WORDS[slot].split("|")
            return choices[rng.integers(len(choices))]
        low, high, digits = NUMBERS[slot]
        return f"{rng.integers(low, high + 1):0{digits}d}"

    sentences = re.split(r"[|\n]", SENTENCES)
    text = sentences[rng.integers(len(sentences))]
    while "{" in text:
        text = re.sub(r"{(\w+)}", fill, text)
    text = re.sub(r"\b([Aa]) (?=[aeiou])(?!uni)", r"\1n ", text)
    return text[0].upper() + text[1:]


def tokens(text: str) -> list[str]:
    """The words of a line as IAM counts them: punctuation around a word is a word of its own."""
    found: list[str] = []
    for word in text.split():
        whole = word in ABBREVIATIONS or re.fullmatch(r"[A-Z]\.", word)
        found += [word] if whole else re.findall(r"\w(?:.*\w)?|\W", word)
    return found
