"""Sentences in twenty languages, written for the tests of language recognition."""

SENTENCES = {
    "en": (
        "The train from the coast was late again this morning because of the storm.",
        "My grandmother keeps her old letters in a wooden box under the bed.",
        "We should check the figures once more before the report is printed.",
        "Most children learn to swim in the lake during the summer holidays.",
        "Nobody knew why the lights in the town hall were still burning.",
    ),
    "de": (
        "Der Zug von der Küste hatte heute Morgen wegen des Sturms wieder Verspätung.",
        "Meine Großmutter bewahrt ihre alten Briefe in einer Holzkiste unter dem Bett auf.",
        "Wir sollten die Zahlen noch einmal prüfen, bevor der Bericht gedruckt wird.",
        "Die meisten Kinder lernen in den Sommerferien im See schwimmen.",
        "Niemand wusste, warum im Rathaus immer noch das Licht brannte.",
    ),
    "fr": (
        "Le train de la côte était encore en retard ce matin à cause de la tempête.",
        "Ma grand-mère garde ses vieilles lettres dans une boîte en bois sous le lit.",
        "Nous devrions vérifier les chiffres encore une fois avant d'imprimer le rapport.",
        "La plupart des enfants apprennent à nager dans le lac pendant les vacances d'été.",
        "Personne ne savait pourquoi les lumières de la mairie étaient encore allumées.",
    ),
    "es": (
        "El tren de la costa llegó otra vez tarde esta mañana por culpa de la tormenta.",
        "Mi abuela guarda sus cartas antiguas en una caja de madera debajo de la cama.",
        "Deberíamos comprobar las cifras una vez más antes de imprimir el informe.",
        "La mayoría de los niños aprende a nadar en el lago durante las vacaciones de verano.",
        "Nadie sabía por qué las luces del ayuntamiento seguían encendidas.",
    ),
    "it": (
        "Il treno dalla costa era di nuovo in ritardo questa mattina a causa della tempesta.",
        "Mia nonna tiene le sue vecchie lettere in una scatola di legno sotto il letto.",
        "Dovremmo controllare le cifre ancora una volta prima di stampare la relazione.",
        "La maggior parte dei bambini impara a nuotare nel lago durante le vacanze estive.",
        "Nessuno sapeva perché le luci del municipio fossero ancora accese.",
    ),
    "pt": (
        "O comboio da costa chegou outra vez atrasado esta manhã por causa da tempestade.",
        "A minha avó guarda as suas cartas antigas numa caixa de madeira debaixo da cama.",
        "Devíamos verificar os números mais uma vez antes de o relatório ser impresso.",
        "A maioria das crianças aprende a nadar no lago durante as férias de verão.",
        "Ninguém sabia por que razão as luzes da câmara ainda estavam acesas.",
    ),
    "nl": (
        "De trein van de kust had vanochtend door de storm alweer vertraging.",
        "Mijn grootmoeder bewaart haar oude brieven in een houten kist onder het bed.",
        "We moeten de cijfers nog een keer controleren voordat het verslag wordt gedrukt.",
        "De meeste kinderen leren tijdens de zomervakantie zwemmen in het meer.",
        "Niemand wist waarom de lichten in het stadhuis nog steeds brandden.",
    ),
    "sv": (
        "Tåget från kusten var försenat igen i morse på grund av stormen.",
        "Min mormor förvarar sina gamla brev i en trälåda under sängen.",
        "Vi borde kontrollera siffrorna en gång till innan rapporten trycks.",
        "De flesta barn lär sig simma i sjön under sommarlovet.",
        "Ingen visste varför lamporna i stadshuset fortfarande lyste.",
    ),
    "da": (
        "Toget fra kysten var forsinket igen i morges på grund af stormen.",
        "Min bedstemor gemmer sine gamle breve i en trækasse under sengen.",
        "Vi burde kontrollere tallene en gang til, før rapporten bliver trykt.",
        "De fleste børn lærer at svømme i søen i sommerferien.",
        "Ingen vidste, hvorfor lysene på rådhuset stadig var tændt.",
    ),
    "fi": (
        "Rannikolta tuleva juna oli tänä aamuna taas myöhässä myrskyn takia.",
        "Isoäitini säilyttää vanhoja kirjeitään puulaatikossa sängyn alla.",
        "Meidän pitäisi tarkistaa luvut vielä kerran ennen kuin raportti painetaan.",
        "Useimmat lapset oppivat uimaan järvessä kesäloman aikana.",
        "Kukaan ei tiennyt, miksi kaupungintalon valot paloivat yhä.",
    ),
    "pl": (
        "Pociąg znad morza spóźnił się dziś rano znowu z powodu burzy.",
        "Moja babcia trzyma stare listy w drewnianym pudełku pod łóżkiem.",
        "Powinniśmy jeszcze raz sprawdzić liczby, zanim raport zostanie wydrukowany.",
        "Większość dzieci uczy się pływać w jeziorze podczas letnich wakacji.",
        "Nikt nie wiedział, dlaczego w ratuszu wciąż paliły się światła.",
    ),
    "cs": (
        "Vlak od pobřeží měl dnes ráno kvůli bouřce opět zpoždění.",
        "Moje babička uchovává své staré dopisy v dřevěné krabici pod postelí.",
        "Měli bychom čísla ještě jednou zkontrolovat, než se zpráva vytiskne.",
        "Většina dětí se během letních prázdnin naučí plavat v jezeře.",
        "Nikdo nevěděl, proč se na radnici pořád svítí.",
    ),
    "hu": (
        "A tengerpartról érkező vonat ma reggel a vihar miatt megint késett.",
        "A nagymamám a régi leveleit egy fadobozban tartja az ágy alatt.",
        "Még egyszer ellenőriznünk kellene a számokat, mielőtt kinyomtatják a jelentést.",
        "A legtöbb gyerek a nyári szünetben tanul meg úszni a tóban.",
        "Senki sem tudta, miért égnek még mindig a lámpák a városházán.",
    ),
    "tr": (
        "Kıyıdan gelen tren bu sabah fırtına yüzünden yine geç kaldı.",
        "Büyükannem eski mektuplarını yatağın altındaki tahta kutuda saklıyor.",
        "Rapor basılmadan önce rakamları bir kez daha kontrol etmeliyiz.",
        "Çocukların çoğu yaz tatilinde gölde yüzmeyi öğreniyor.",
        "Belediye binasındaki ışıkların neden hâlâ yandığını kimse bilmiyordu.",
    ),
    "ru": (
        "Поезд с побережья сегодня утром снова опоздал из-за бури.",
        "Моя бабушка хранит старые письма в деревянной коробке под кроватью.",
        "Нам нужно ещё раз проверить цифры, прежде чем отчёт напечатают.",
        "Большинство детей учится плавать в озере во время летних каникул.",
        "Никто не знал, почему в ратуше всё ещё горел свет.",
    ),
    "el": (
        "Το τρένο από την ακτή άργησε πάλι σήμερα το πρωί εξαιτίας της καταιγίδας.",
        "Η γιαγιά μου φυλάει τα παλιά της γράμματα σε ένα ξύλινο κουτί κάτω από το κρεβάτι.",
        "Πρέπει να ελέγξουμε τους αριθμούς άλλη μια φορά πριν τυπωθεί η έκθεση.",
        "Τα περισσότερα παιδιά μαθαίνουν να κολυμπούν στη λίμνη το καλοκαίρι.",
        "Κανείς δεν ήξερε γιατί τα φώτα στο δημαρχείο ήταν ακόμα αναμμένα.",
    ),
    "ar": (
        "تأخر القطار القادم من الساحل مرة أخرى هذا الصباح بسبب العاصفة.",
        "تحتفظ جدتي برسائلها القديمة في صندوق خشبي تحت السرير.",
        "يجب أن نراجع الأرقام مرة أخرى قبل طباعة التقرير.",
        "يتعلم معظم الأطفال السباحة في البحيرة خلال العطلة الصيفية.",
        "لم يعرف أحد لماذا كانت الأضواء في مبنى البلدية لا تزال مضاءة.",
    ),
    "ja": (
        "今朝も嵐のせいで海岸からの列車がまた遅れました。",
        "祖母は古い手紙をベッドの下の木の箱にしまっています。",
        "報告書を印刷する前に、もう一度数字を確認したほうがいいでしょう。",
        "ほとんどの子供たちは夏休みに湖で泳ぎを覚えます。",
        "なぜ市役所の明かりがまだついているのか、誰も知りませんでした。",
    ),
    "zh": (
        "由于暴风雨，从海边开来的火车今天早上又晚点了。",
        "我的祖母把她的旧信放在床底下的一个木盒子里。",
        "在打印报告之前，我们应该再检查一次这些数字。",
        "大多数孩子在暑假期间学会在湖里游泳。",
        "没有人知道为什么市政厅的灯还亮着。",
    ),
    "ko": (
        "오늘 아침에도 폭풍 때문에 해안에서 오는 기차가 또 늦었습니다.",
        "할머니는 오래된 편지를 침대 밑의 나무 상자에 보관하십니다.",
        "보고서를 인쇄하기 전에 숫자를 한 번 더 확인해야 합니다.",
        "대부분의 아이들은 여름 방학 동안 호수에서 수영을 배웁니다.",
        "시청의 불이 왜 아직도 켜져 있는지 아무도 몰랐습니다.",
    ),
}


def texts(language: str) -> list[str]:
    """Different texts of over 200 characters of a language."""
    sentences = SENTENCES[language]
    made = []
    for start in range(len(sentences)):
        text, place = "", start
        while len(text) <= 200:
            text += sentences[place % len(sentences)] + " "
            place += 1
        made.append(text)
    return made
