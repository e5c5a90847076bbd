"""The stories' words: times, places, weather, lost things, wishes, and what people say; `stories.py` uses them."""

from __future__ import annotations

WEATHER = (
    ("it was raining", ("took an umbrella", "ran from door to door", "put on a long coat")),
    ("it was very cold", ("put on a warm hat", "walked with care", "wore two coats")),
    ("the sun was shining", ("wore a big hat", "walked in the shadow of the trees", "carried some water")),
    (
        "a strong wind was blowing",
        ("held on to every fence", "tied down the hat with a ribbon", "walked slowly"),
    ),
    ("there was thick fog", ("carried a lamp", "followed the sound of the bells", "walked along the wall")),
    ("the air was mild", ("left the coat at home", "took the long way", "sang on the way")),
)
TIMES = (
    "one morning", "on Monday", "on a quiet Sunday", "last week", "early in the day", "late in the evening",
    "in spring", "one autumn day", "before breakfast", "after lunch", "on market day", "one winter night",
    "yesterday", "on the first day of May", "once",
)  # fmt: skip
PLACES = (
    "the market", "the bridge", "the old mill", "the station", "the school", "the park", "the harbour",
    "the library", "the church", "the bakery", "the square", "the big gate", "the garden",
    "the shop on the corner",
)  # fmt: skip
PRECIOUS = (
    ("key", "could not open the door"), ("hat", "had a cold head"), ("letter", "could not read the news"),
    ("ring", "wanted to cry"), ("map", "did not know the way"), ("watch", "did not know the time"),
    ("purse", "had no money left"), ("lamp", "could not see the path"), ("book", "could not sleep"),
    ("coin", "could not pay"), ("scarf", "felt cold"), ("flute", "could not play"),
)  # fmt: skip
SPOTS = (
    "under a chair", "behind the door", "in the grass", "on a high shelf", "beside the well",
    "in an old boot", "between two stones", "on the roof", "in the hay", "at the bottom of a basket",
    "next to the oven", "under the bridge",
)  # fmt: skip
WANTED = (
    ("bake a pie", "flour", "the pie smelled wonderful"),
    ("write a letter", "paper", "the letter was three pages long"),
    ("build a kite", "string", "the kite flew over the roofs"),
    ("mend the roof", "nails", "the roof was dry again"),
    ("make a soup", "carrots", "the soup was hot and thick"),
    ("plant a tree", "a spade", "the tree stood straight"),
    ("paint the door", "blue paint", "the door looked like new"),
    ("knit a scarf", "wool", "the scarf was soft and long"),
    ("hold a party", "candles", "the guests danced until night"),
    ("fix the boat", "a plank", "the boat did not sink"),
    ("make a toy", "wood", "the toy could roll and turn"),
    ("brew some tea", "leaves of mint", "the tea was sweet"),
)  # fmt: skip
GIFTS = (
    "a red apple",
    "a warm loaf",
    "a small bell",
    "a jar of jam",
    "a wooden spoon",
    "a yellow flower",
    "a pair of gloves",
    "a picture",
)
SOUNDS = (
    "a cry",
    "a loud noise",
    "a bell",
    "a knock at the door",
    "soft music",
    "a splash",
    "somebody laughing",
    "footsteps",
)
GLAD = ("glad", "proud", "happy", "pleased", "calm", "full of joy")
UPSET = ("sad", "angry", "worried", "upset", "afraid", "ashamed")
LESSONS = (
    "a friend is better than gold", "it pays to be patient", "small things matter", "one should look twice",
    "help comes from many sides", "the long way can be the best", "kind words cost nothing",
    "a good plan saves work", "nobody is too small to help",
)  # fmt: skip
LINKS = (
    "a few days went by", "but the day was not over", "the next morning came", "time passed",
    "a week later there was more to do", "the following day was a busy one", "that was not all",
)  # fmt: skip
GREETED = ("where are you going?", "how are you today?", "what a nice surprise!", "come and sit with me!")
REPLIED = ("I am glad to see you!", "I have so much to tell you.", "let us go on together.")
GRANTED = ("of course you may!", "take what you need.", "yes, but tell me how it goes.", "with pleasure!")
PARTED = ("that was a good day.", "let us do this again!", "thank you for everything.", "come back soon!")
SUCCEEDED = ("{s}", "in the evening {s}", "when all was done, {s}", "it took a while, but {s}")
SHARED = (
    "so they did first one and then the other",
    "they took turns",
    "in the end each did what was dearest",
)
ACCIDENTS = ("had fallen off a ladder", "was looking for help", "was singing", "had dropped a plate")
ESCAPES = ("had run away", "was hungry", "wanted to play", "was lonely", "could not get home")
SET_OUT = ("left the house", "got up", "set out", "went out")
BOUGHT = ("bought some {g} there", "saw all the {g}", "brought home {g} for everybody", "asked for {g}")
TRAVELLED = ("travelled", "rode", "went", "took the train")
STARTLED = ("stopped", "turned round", "jumped up", "hid")
HELPED = ("helped", "called", "went to", "smiled at")
AFTERWARDS = ("from then on", "since that day", "ever after")
EVENINGS = ("slept well", "sang a song", "sat by the fire")
MET = ("met", "saw", "ran into", "found")
