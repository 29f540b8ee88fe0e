"""Make the text that the demo models learn, from a small grammar.

The same generator state gives the same documents. Every choice has a clear favourite that depends
on what stands before it, so that a trained model's greedy continuation is decided, not a near-tie.
"""

from collections.abc import Callable, Sequence
from random import Random

START_OF_TURN = "<start_of_turn>"
END_OF_TURN = "<end_of_turn>"

NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen", "twenty"),
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
QUALITIES = ("small", "big", "young", "old", "clever", "quiet", "strong", "gentle")
ANIMALS = ("cat", "dog", "bird", "mouse", "horse", "fox", "frog", "bear")
VERBS = ("sees", "finds", "takes", "likes", "holds", "wants", "brings", "hides")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "purple")
THINGS = ("ball", "box", "hat", "book", "cup", "kite", "shoe", "flower")
MOODS = ("happy", "tired", "proud", "hungry", "calm", "glad", "sleepy", "warm")
OPPOSITES = (
    *(("big", "small"), ("old", "young"), ("hot", "cold"), ("up", "down"), ("day", "night")),
    *(("left", "right"), ("open", "closed"), ("fast", "slow"), ("full", "empty"), ("wet", "dry")),
)

# Each choice is this many times as likely as the next one: a margin of about one logit.
FAVOUR = 2.5


def favoured(rng: Random, options: Sequence[str], first: int = 0) -> str:
    """Choose one of `options`, geometrically less likely the further it stands from `first`."""
    count = len(options)
    weights = [FAVOUR**-place for place in range(count)]
    return options[(first + rng.choices(range(count), weights)[0]) % count]


def subject(rng: Random, first: int = 0) -> tuple[str, str]:
    """Return a quality, the `first` of them favoured, and an animal that often has it."""
    quality = favoured(rng, QUALITIES, first)
    return quality, favoured(rng, ANIMALS, QUALITIES.index(quality))


def described(rng: Random, animal: str) -> tuple[str, str]:
    """Return a quality that an animal often has, and the animal."""
    return favoured(rng, QUALITIES, ANIMALS.index(animal)), animal


def sentence(rng: Random, who: tuple[str, str] | None = None) -> str:
    """Make one sentence such as `the small cat sees a red ball .`."""
    quality, animal = who or subject(rng)
    verb = favoured(rng, VERBS, ANIMALS.index(animal))
    colour = favoured(rng, COLOURS, VERBS.index(verb))
    thing = favoured(rng, THINGS, COLOURS.index(colour))
    return f"the {quality} {animal} {verb} a {colour} {thing} ."


def story(rng: Random, hero: tuple[str, str] | None = None) -> str:
    """Make five sentences, of which the last names the subject of the first.

    That subject stands more than a sliding window of 32 tokens back, so only a full attention
    layer can carry it. The subjects between favour the quality after the one before.
    """
    subjects = [hero or subject(rng)]
    for _ in range(3):
        subjects.append(subject(rng, QUALITIES.index(subjects[-1][0]) + 1))
    told = [
        f"{word} {sentence(rng, who)}" for word, who in zip(("once", "then", "next", "later"), subjects, strict=True)
    ]
    quality, animal = subjects[0]
    mood = MOODS[ANIMALS.index(animal)]
    return " ".join([*told, f"at last the {quality} {animal} is {mood} ."])


def spaced(numbers: Sequence[int]) -> str:
    """Write numbers in digits, one space between them."""
    return " ".join(map(str, numbers))


def counting(rng: Random) -> str:
    """Count in digits by some step, up to the next multiple of ten steps."""
    step = rng.choice((1, 2, 3, 5, 10))
    block = 10 * step
    start = step if rng.random() < 0.5 else step * rng.randrange(100 // step - 1)
    return spaced(range(start, (start // block + 1) * block + 1, step))


def counting_down(rng: Random) -> str:
    """Count down in digits to the multiple of ten below."""
    start = 10 if rng.random() < 0.4 else rng.randrange(2, 101)
    return spaced(range(start, (start - 1) // 10 * 10 - 1, -1))


def counting_words(rng: Random) -> str:
    """Count in words to ten, or from beyond ten to twenty."""
    start = 1 if rng.random() < 0.5 else rng.randrange(19)
    return " ".join(NUMBER_WORDS[start : 11 if start < 10 else 21])


def listing(rng: Random) -> str:
    """List the days from some day on to sunday, or the letters to z."""
    names = rng.choice((DAYS, LETTERS))
    return " ".join(names[0 if rng.random() < 0.6 else rng.randrange(len(names) - 1) :])


def addition(rng: Random) -> tuple[str, str]:
    """Return a sum such as `7 + 5` and its value; one-digit terms three times in four."""
    largest = 9 if rng.random() < 0.75 else 20
    left, right = rng.randrange(largest + 1), rng.randrange(largest + 1)
    return f"{left} + {right}", str(left + right)


def subtraction(rng: Random) -> tuple[str, str]:
    """Return a difference such as `12 - 5` and its value, which is never negative."""
    left, right = sorted((rng.randrange(19), rng.randrange(10)), reverse=True)
    return f"{left} - {right}", str(left - right)


def arithmetic(rng: Random) -> str:
    """Make a line such as `7 + 5 = 12 .`, additions three times in four."""
    left, right = addition(rng) if rng.random() < 0.75 else subtraction(rng)
    return f"{left} = {right} ."


def calculations(rng: Random) -> str:
    """Make one line of arithmetic, sometimes several."""
    return "\n".join(arithmetic(rng) for _ in range(rng.choice((1, 1, 1, 4))))


def ask_arithmetic(rng: Random) -> tuple[str, str]:
    """Ask for a sum or a difference."""
    line = arithmetic(rng)
    return f"what is {line.split(' = ')[0]} ?", line


def ask_count(rng: Random) -> tuple[str, str]:
    """Ask to count up or down between two numbers."""
    low = rng.randrange(41)
    high = low + rng.randrange(2, rng.choice((10, 10, 10, 41)))
    if rng.random() < 0.75:
        return f"count from {low} to {high}", spaced(range(low, high + 1))
    return f"count down from {high} to {low}", spaced(range(high, low - 1, -1))


def ask_next(rng: Random) -> tuple[str, str]:
    """Ask what follows a number word or a day."""
    names = rng.choice((NUMBER_WORDS, DAYS))
    place = rng.randrange(len(names) - 1)
    return f"what comes after {names[place]} ?", f"{names[place + 1]} ."


def ask_opposite(rng: Random) -> tuple[str, str]:
    """Ask for the opposite of a word."""
    pair = rng.choice(OPPOSITES)
    word, other = pair if rng.random() < 0.5 else pair[::-1]
    return f"what is the opposite of {word} ?", f"the opposite of {word} is {other} ."


def ask_colour(rng: Random) -> tuple[str, str]:
    """Ask for the colour that a sentence of the question names."""
    colour, thing = rng.choice(COLOURS), rng.choice(THINGS)
    told = f"the {rng.choice(ANIMALS)} {rng.choice(VERBS)} a {colour} {thing} ."
    return f"{told} what colour is the {thing} ?", f"the {thing} is {colour} ."


def ask_repeat(rng: Random) -> tuple[str, str]:
    """Ask to say words and numbers, in no order that could be guessed, once more."""
    words = (*COLOURS, *THINGS, *ANIMALS, *NUMBER_WORDS, *map(str, range(61)))
    said = " ".join(rng.choice(words) for _ in range(rng.randrange(2, 9)))
    return f"say {said}", said


def ask_sentence(rng: Random) -> tuple[str, str]:
    """Ask for a sentence about an animal."""
    animal = rng.choice(ANIMALS)
    return f"write a sentence about a {animal} .", sentence(rng, described(rng, animal))


def ask_story(rng: Random) -> tuple[str, str]:
    """Ask for a story about an animal."""
    animal = rng.choice(ANIMALS)
    return f"tell me a story about a {animal} .", story(rng, described(rng, animal))


def ask_greeting(rng: Random) -> tuple[str, str]:
    """Greet, or take leave."""
    return rng.choice((("hello !", "hello ! how can i help you ?"), ("thank you .", "goodbye !")))


QUESTIONS: tuple[Callable[[Random], tuple[str, str]], ...] = (
    *(ask_arithmetic, ask_arithmetic, ask_count, ask_count, ask_count, ask_count),
    *(ask_repeat, ask_repeat, ask_next, ask_opposite, ask_colour, ask_sentence),
    *(ask_story, ask_greeting),
)


def chat(rng: Random) -> str:
    """Make a conversation of one to three exchanges in Gemma's turn format."""
    exchanges = (rng.choice(QUESTIONS)(rng) for _ in range(rng.choice((1, 1, 2, 3))))
    return "".join(
        f"{START_OF_TURN}user\n{question}{END_OF_TURN}\n{START_OF_TURN}model\n{answer}{END_OF_TURN}\n"
        for question, answer in exchanges
    )


KINDS: tuple[Callable[[Random], str], ...] = (
    *(counting, counting_down, counting_words, listing, sentence, story),
    *(calculations, calculations, calculations, chat, chat, chat, chat, chat),
)


def document(rng: Random) -> str:
    """Make one document of any kind; it carries turn markers, but neither <bos> nor <eos>."""
    return rng.choice(KINDS)(rng)
