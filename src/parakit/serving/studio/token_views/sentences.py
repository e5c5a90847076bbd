"""One sentence in several languages, to compare what tokenizers make of them: the first article of the Universal
Declaration of Human Rights (United Nations 1948; in the public domain), its first sentence.
"""

SENTENCES = (
    ("English", "All human beings are born free and equal in dignity and rights."),
    ("German", "Alle Menschen sind frei und gleich an Würde und Rechten geboren."),
    ("French", "Tous les êtres humains naissent libres et égaux en dignité et en droits."),
    ("Spanish", "Todos los seres humanos nacen libres e iguales en dignidad y derechos."),
    ("Turkish", "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar."),
    ("Russian", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
    ("Greek", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."),
    ("Arabic", "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق."),
    ("Hindi", "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।"),
    ("Chinese", "人人生而自由，在尊严和权利上一律平等。"),
    ("Japanese", "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"),
)
