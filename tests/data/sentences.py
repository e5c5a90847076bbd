"""Sentences of twelve languages, with the encodings in which their files are met."""

SENTENCES = {
    "German": "Der Vertrag über die Lieferung größerer Maschinen wurde am Freitag unterschrieben. Für die Übergabe"
    " gelten die üblichen Regeln, außer bei höherer Gewalt. ",
    "French": "Le contrat a été signé à Genève. Les délais de livraison sont fixés à trente jours, sauf cas de force"
    " majeure. Où êtes-vous allés après l'été ? ",
    "Spanish": "El año pasado la compañía firmó un contrato de suministro. ¿Dónde está la reunión de mañana? La señora"
    " González envió el informe. ",
    "Swedish": "Avtalet skrevs under i går. Leveransen av större maskiner sker på fredag, och vi hälsar er välkomna till"
    " mötet på ön. ",
    "Polish": "Umowa została podpisana w piątek. Zażółć gęślą jaźń. Dostawa większych maszyn odbędzie się w przyszłym"
    " tygodniu. ",
    "Czech": "Smlouva byla podepsána v pátek. Dodávka větších strojů proběhne příští týden. Příliš žluťoučký kůň úpěl"
    " ďábelské ódy. ",
    "Russian": "Договор был подписан в пятницу. Поставка больших машин состоится на следующей неделе. ",
    "Greek": "Η σύμβαση υπογράφηκε την Παρασκευή. Η παράδοση των μεγαλύτερων μηχανών θα γίνει την επόμενη εβδομάδα. ",
    "Japanese": "契約は金曜日に署名されました。大型機械の納入は来週行われる予定です。会議は午後三時に始まります。"
    "カタカナもあります。",
    "Chinese": "合同已于星期五签署。大型机器的交付将在下周进行。会议将于下午三点开始。",
    "Korean": "계약은 금요일에 체결되었습니다. 대형 기계의 인도는 다음 주에 이루어질 예정입니다. ",
    "English": "The “new” policy — it’s here: costs €5,000… see §4. Don’t reply. ",
}

ENCODED = [
    *(("German", encoding) for encoding in ("latin-1", "cp1252", "iso8859-15", "mac_roman", "cp850")),
    *(("French", encoding) for encoding in ("latin-1", "cp1252", "mac_roman")),
    ("Spanish", "latin-1"), ("Swedish", "latin-1"), ("Swedish", "cp1252"), ("English", "cp1252"),
    ("Polish", "iso8859-2"), ("Polish", "cp1250"), ("Czech", "iso8859-2"), ("Czech", "cp1250"),
    *(("Russian", encoding) for encoding in ("cp1251", "koi8-r", "cp866", "iso8859-5")),
    ("Greek", "cp1253"), ("Greek", "iso8859-7"),
    *(("Japanese", encoding) for encoding in ("shift_jis", "cp932", "euc_jp", "iso2022_jp")),
    ("Chinese", "gb18030"), ("Chinese", "gb2312"), ("Korean", "cp949"), ("Korean", "euc_kr"),
]  # fmt: skip
