"""A vocabulary of our own, by kind. No word has two kinds.

It holds no words of closed classes (articles, months, colours, labels of forms and windows): those
both splits use, as both use all numbers.
"""

_LISTS = {
    "first": """
        Ada Adam Agnes Alan Alice Amir Anna Anton Arthur Astrid Ben Bianca Boris Bruno Carla Carlos
        Cecilia Chen Clara Colin Daniel Daria David Diana Edgar Edith Elena Elias Emma Erik Esther
        Felix Fiona Frank George Gloria Greta Hannah Hasan Helen Hugo Ida Igor Ines Irene Ivan Jack
        Jana Joan Jonas Julia Karen Karim Kevin Laura Leo Lena Linda Louis Lucy Luis Marco Maria
        Martha Max Mei Mia Miguel Mona Nadia Nina Noah Nora Olga Oliver Omar Oscar Paula Peter Petra
        Philip Rachel Ralph Rita Robert Rosa Ruth Samuel Sara Silvia Simon Sofia Stella Tara Theo
        Thomas Tina Victor Vera Walter Wendy Yusuf Zoe
    """,
    "last": """
        Abbott Almeida Andersen Aydin Bailey Bauer Becker Bergman Bianchi Blake Brandt Campbell
        Carter Castillo Chang Cooper Costa Dalton Davies Dubois Duncan Ellis Evans Ferrari Fischer
        Fletcher Foster Garcia Gibson Gomez Graham Haddad Hansen Harper Hoffman Howard Hughes
        Ibrahim Ito Jansen Jensen Jordan Kaplan Keller Kim Klein Kowalski Larsen Lambert Lewis
        Lindgren Lopez Maier Marino Martin Mendoza Meyer Miller Morgan Moreau Murphy Nagy Nelson
        Novak Olsen Ortega Palmer Parker Patel Perez Petrov Quinn Ramos Reid Ricci Roberts Romero
        Rossi Sanchez Schmidt Shah Silva Simmons Sato Stone Tanaka Taylor Torres Turner Vargas Vogel
        Wagner Walker Weber Wilson Wong Wright Yamada Young Zhang Ziegler
    """,
    "city": """
        Aberdeen Accra Amsterdam Ankara Antwerp Athens Auckland Baltimore Bangkok Barcelona Basel
        Belfast Berlin Bogota Bologna Boston Bremen Brisbane Brussels Budapest Cairo Calgary Chicago
        Cologne Copenhagen Dallas Delhi Denver Dresden Dublin Durban Edinburgh Florence Frankfurt
        Geneva Genoa Glasgow Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Karachi Kingston
        Krakow Lagos Leeds Leipzig Lima Lisbon Liverpool London Lyon Madrid Malaga Manchester Manila
        Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Osaka Oslo Ottawa Oxford
        Paris Perth Porto Prague Quito Riga Rome Rotterdam Salzburg Santiago Seattle Seoul Seville
        Shanghai Stockholm Sydney Tampa Tokyo Toronto Tunis Turin Utrecht Valencia Vancouver Venice
        Verona Vienna Warsaw Zurich
    """,
    "noun": """
        airport anchor animal answer apple apron arch arrow artist autumn baker balcony ball bamboo
        bank barn basin basket beach beacon bear bee beetle bell bench bicycle bird blanket blossom
        boat bone border bottle boulder branch bread breeze brick bridge brook broom brush bucket
        builder building bus butterfly cabin cable camel camera camp canal candle canoe canyon
        captain carpet carriage castle cathedral cattle cave ceiling cellar chain chair chapel
        cherry child chimney church circus cliff climate clinic clock cloud coach coast coat coin
        college comet compass concert copper coral corner cottage cotton council country cousin cow
        crane creek crew crop crown curtain dancer dawn deer desert diamond dinner doctor dog
        dolphin donkey door dragon dream driver drum duck dust eagle earth elephant elm engine
        evening factory falcon family farm farmer feather fence ferry festival field finger fire
        fireplace fisherman flag flame flock flood floor flour flower flute fog forest fortress
        fountain fox friend frog frost fruit furnace gallery garage garden gardener gate gesture
        ghost giant giraffe glacier glass glove goat gold goose grain grape grass gravel guard guest
        guitar gull hall hammer harbor harvest hat hawk hedge helmet hen herb hero hill hilltop
        honey hook horse hospital hotel house hunter husband ice insect iron island ivy jacket jar
        jewel journal journey judge jungle kettle king kitchen kite kitten knife knight ladder lake
        lamb lamp lantern laundry lawyer leaf leather legend lemon lighthouse lily lion lizard
        lobster maple marble marsh mason meadow melon merchant mill miner mirror mist monkey moon
        morning moss moth mountain mouse mule museum mushroom musician nail needle neighbor nest
        night nurse oak oar oasis ocean officer olive onion orchard orchestra otter oven owl ox
        oyster paddle painter palace palm parade park parrot pasture path peach peacock pear pearl
        pebble penguin pepper piano picnic pigeon pilot pine pirate planet plank plate player plum
        pocket poem poet pond pony poppy potato prince prison pumpkin puppy quarry queen rabbit raft
        railway rain rainbow raven reef ribbon rice rider river robin rocket roof root rope rose
        ruler sailor salmon salt sand saw scarf school scientist sculptor sea seal season shadow
        sheep shelf shepherd shield ship shirt shoe shore sister skater sky sled smoke snail snow
        soldier song spider spoon spring squirrel stable stadium stairs station statue storm stove
        stranger straw stream student sugar summer sun swallow swan tailor teacher teapot temple
        tent theater thief thunder tiger timber tower town tractor trail train traveler treasure
        tree trumpet tulip tunnel turtle umbrella uncle valley vase vehicle village vine violin
        volcano wagon waiter wall walnut warehouse water waterfall wave weather well whale wheat
        wheel whistle wife willow wind winter wolf woman wood wool worker yard zebra
    """,
    "product": """
        almonds apricots backpack bacon bagel bananas batteries beans biscuits blender bracelet
        broccoli butter cabbage calculator carrots cereal charger cheese chocolate cinnamon coffee
        cookies crackers crayons cream cucumber cushion detergent doughnut earrings eggs envelopes
        eraser flashlight garlic ginger glue granola ham headphones jam juice ketchup keyboard
        lentils lettuce lipstick magazine marker milk monitor muffin mug mustard napkins noodles
        notebook oatmeal oil pancakes pasta peanuts pen pencil perfume pickles pillow pizza popcorn
        printer raisins rucksack salad sandals sandwich sausage scissors shampoo slippers soap socks
        soda soup spinach sponge stapler steak strawberries sunglasses sweater syrup tea thermos
        toaster toothpaste towel trousers tuna vinegar waffles wallet yogurt
    """,
    "adjective": """
        ancient angry bitter bold brave bright broken busy calm careful cheap clean clever cold
        common cosy crooked curious damp dangerous deep delicate distant dry dusty eager early easy
        elegant empty faint famous fancy fast fierce fine fragile fresh friendly frozen gentle glad
        golden graceful grand great happy hard harsh heavy hidden hollow honest huge humble hungry
        icy important jolly kind large late lazy light little lively lonely loud lovely lucky mighty
        modern muddy narrow neat nervous noble noisy odd old peaceful perfect plain pleasant polite
        poor precious pretty proud quick quiet rare ready rich ripe rough rusty sad secret serious
        shallow sharp shiny shy silent silver simple sleepy slender slow small smooth soft solid
        sour steady steep strange strong stubborn sudden sunny sweet swift tall tame tender thick
        thin thirsty tidy tiny tired tough true vast warm weak weary wet wide wild wise wooden worn
    """,
    "verb": """
        admires approaches avoids blames borrows builds buys calls carries catches chases checks
        cleans climbs collects counts covers crosses describes discovers draws enjoys enters escapes
        examines explores fears feeds fills finds fixes follows forgets greets guards guides hears
        helps hides holds hunts ignores joins keeps knows leads leaves likes loves measures meets
        mends misses moves needs notices offers opens orders owns paints passes plants praises
        prefers protects pulls pushes raises reaches remembers repairs rescues respects returns
        saves seeks sells sends serves shows sketches studies supports surprises teaches touches
        trusts uses visits wants warns washes watches welcomes
    """,
    "adverb": """
        almost always badly barely boldly bravely briefly calmly carefully cheerfully daily deeply
        eagerly easily evenly finally firmly freely gently gladly happily hardly kindly lately
        loudly mostly nearly neatly never nicely often once partly patiently perhaps politely
        promptly proudly quickly quietly rarely really sadly safely seldom silently simply slowly
        smoothly softly sometimes soon steadily suddenly today together tomorrow twice usually
        warmly wisely yesterday
    """,
}

VOCABULARY: dict[str, tuple[str, ...]] = {k: tuple(v.split()) for k, v in _LISTS.items()}

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

UNITS = ("kg", "km", "litres", "tonnes", "hours", "days", "metres", "points", "euros", "dollars")

SYLLABLES = (
    *("ba", "bel", "co", "cra", "da", "del", "dro", "fa", "fen", "fi", "ga", "gor", "gri", "ha"),
    *("hu", "jo", "ka", "kel", "ko", "la", "li", "lor", "ma", "mi", "mor", "na", "ne", "nu", "pa"),
    *("pel", "pi", "qua", "ra", "ri", "ro", "sa", "sel", "shi", "so", "sta", "ta", "tem", "ti"),
    *("tro", "va", "ve", "vi", "wa", "wen", "xi", "ya", "yo", "za", "zel", "zu"),
)
CURRENCIES = ("$", "$", "$", "€", "€", "£", "")
CODE_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"  # no I, O and Q, which look like digits
