"""Word lists: titles in seven languages, names of artists, and synonyms for the told factors."""

# Titles are a subject and a complement of the song's language. They say nothing about the music.
# fmt: off
TITLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "en": (
        (
            "Lanterns", "The Ferryman", "Seven Letters", "A Door", "Paper Boats", "The Cartographer",
            "Two Foxes", "Copper Wires", "My Brother's Coat", "Salt", "The Last Orchard", "Windows",
            "Rivers", "An Unsent Card", "Footprints", "The Clockmaker", "Blue Tiles", "Postcards",
            "A Stranger", "Swallows", "The Mill",
        ),
        (
            "under the Snow", "at Low Tide", "of Saint Agnes", "for Eleanor", "on Platform Nine",
            "beyond the Hill", "in October", "without a Name", "after the Rain", "by the Canal",
            "from Nowhere", "before Dawn", "in the Attic", "of the North", "over Lisbon", "behind Glass",
            "for the Road", "in Half Light",
        ),
    ),
    "de": (
        (
            "Der Leuchtturm", "Ein Brief", "Papierdrachen", "Das alte Haus", "Zwei Schatten", "Kastanien",
            "Der Gärtner",
        ),
        (
            "am See", "ohne Absender", "im November", "hinter der Brücke", "aus Glas", "für Marie",
            "nach dem Regen",
        ),
    ),
    "fr": (
        (
            "La fenêtre", "Le jardin", "Les oiseaux", "Une lettre", "Le phare", "Deux chaises", "La gare",
        ),
        (
            "sous la neige", "de Madeleine", "au bord de l'eau", "sans retour", "d'avril", "du matin",
            "des absents",
        ),
    ),
    "es": (
        (
            "La ventana", "El puente", "Cartas", "Un barco", "Las hojas", "El jardín", "Tres llaves",
        ),
        (
            "de papel", "sin nombre", "bajo la luna", "para Inés", "del sur", "en la orilla", "de octubre",
        ),
    ),
    "it": (
        (
            "La finestra", "Il faro", "Le strade", "Una lettera", "Il cortile", "Due ombre", "Il treno",
        ),
        (
            "di carta", "sul mare", "senza nome", "di settembre", "per Lucia", "dopo la pioggia",
            "di vetro",
        ),
    ),
    "pt": (
        (
            "A janela", "O farol", "As ruas", "Uma carta", "O barco", "Duas sombras", "O quintal",
        ),
        (
            "de papel", "do Porto", "sem destino", "à beira do rio", "de maio", "para Teresa",
            "depois da chuva",
        ),
    ),
    "ja": (
        (
            "Tsuki", "Kaze", "Hoshi", "Ame", "Kawa", "Mado", "Yuki",
        ),
        (
            "no Tegami", "no Michi", "no Niwa", "no Machi", "to Watashi", "no Eki", "no Kioku",
        ),
    ),
}
# fmt: on
FIRST_NAMES = (
    "Ines",
    "Tomas",
    "Marlow",
    "Aiko",
    "Bruno",
    "Celeste",
    "Dmitri",
    "Elodie",
    "Farid",
    "Greta",
    "Hugo",
    "Imani",
    "Jonas",
    "Katya",
    "Leandro",
    "Mirela",
    "Nils",
    "Odile",
    "Paulo",
    "Rosalind",
    "Soren",
    "Thea",
    "Umberto",
    "Vera",
)  # fmt: skip
LAST_NAMES = (
    "Valdar", "Okonjo", "Lindqvist", "Moreau", "Castellan", "Brandt", "Hayashi", "Ferreira", "Quill",
    "Rossetti", "Novak", "Ashdown", "Delacroix", "Ibarra", "Kowal", "Thorne", "Marchetti", "Nakano",
    "Petrov", "Salgado",
)  # fmt: skip
GENRE_WORDS = {
    "folk": ("folk", "folk song", "traditional"),
    "techno": ("techno", "electronic dance", "club"),
    "blues": ("blues", "twelve-bar blues", "delta blues"),
    "lullaby": ("lullaby", "bedtime song", "cradle song"),
    "march": ("march", "marching band", "parade"),
    "samba": ("samba", "brazilian", "carnival"),
    "ambient": ("ambient", "soundscape", "drone"),
    "rock": ("rock", "rock band", "riff"),
}
MOOD_WORDS = {
    "joyful": ("joyful", "happy", "cheerful", "sunny"),
    "melancholy": ("melancholy", "sad", "mournful", "wistful"),
    "calm": ("calm", "peaceful", "relaxing", "gentle"),
    "tense": ("tense", "nervous", "restless", "uneasy"),
    "dreamy": ("dreamy", "ethereal", "floating", "hazy"),
    "energetic": ("energetic", "powerful", "driving", "lively"),
}
TEMPO_WORDS = {
    "slow": ("slow", "unhurried", "slow tempo"),
    "medium": ("medium tempo", "moderate", "walking pace"),
    "fast": ("fast", "quick", "up-tempo"),
}
METER_WORDS = {
    "3/4": ("waltz", "three-four time", "in three"),
    "4/4": ("four-four time", "straight beat"),
    "2/4": ("two-four time", "two-step"),
    "6/8": ("six-eight time", "swaying", "compound time"),
    "12/8": ("shuffle", "swing", "triplet feel"),
}
MODE_WORDS = {
    "major": ("major key", "major"),
    "minor": ("minor key", "minor"),
    "dorian": ("minor key", "dorian"),
    "mixolydian": ("major key", "mixolydian"),
}
INSTRUMENT_WORDS = {
    "harp": ("harp", "harp melody"),
    "piano": ("piano", "piano lead"),
    "flute": ("flute", "wooden flute"),
    "violin": ("violin", "fiddle", "strings"),
    "guitar": ("guitar", "acoustic guitar"),
    "organ": ("organ", "hammond organ"),
    "synth": ("synth", "synthesizer"),
    "trumpet": ("trumpet", "brass"),
    "marimba": ("marimba", "mallets"),
}
