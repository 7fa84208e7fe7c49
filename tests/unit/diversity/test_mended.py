"""The mended rule, phenomenon by phenomenon; every table holds near misses as well."""

import pytest

from pipeline.diversity import VerbNoun, analyse


def imperative(verb, noun=None, *also):
    return VerbNoun("imperative", verb, noun, also)


def question(word):
    return VerbNoun("question", question_word=word)


UNPARSED = VerbNoun("unparsed")

PHENOMENA = {
    "plain": {
        "Draw a map of the harbour.": imperative("draw", "map"),
        "Shut the gate.": imperative("shut", "gate"),
        "Give me a list of rivers.": imperative("give", "list"),
        "Send us a map.": imperative("send", "map"),
        "Return each of the keys.": imperative("return", "key"),
        "Choose one of the following words.": imperative("choose", "word"),
        "Pick one of the following.": imperative("pick"),
        "Name something blue.": imperative("name"),
        "Make the sentence longer.": imperative("make", "sentence"),
        "Explain how to tie a knot.": imperative("explain"),
        "Describe how bread is made.": imperative("describe"),
        "Tell me about your boat.": imperative("tell"),
        "Respond with a number.": imperative("respond"),
        "Print 1 if the light is on.": imperative("print"),
        'Define "brisk".': imperative("define"),
        'Use the word "brisk" in a sentence.': imperative("use", "word"),
        "Tell me where moths sleep?": imperative("tell"),
    },
    "polite openings": {
        "Could you draft a toast?": imperative("draft", "toast"),
        "Can you explain why the kettle whistles?": imperative("explain"),
        "Would you please explain the tides to a child?": imperative("explain", "tide"),
        "Please could you name the highest mountain?": imperative("name", "mountain"),
        "Please, edit my letter.": imperative("edit", "letter"),
        "Would you say that owls are shy?": question("yes_no"),
        "Do you think that bees sleep?": question("yes_no"),
        "Can penguins fly?": question("yes_no"),
        "How could you draft a toast?": question("how"),
    },
    "need and want": {
        "I need you to bake a cake.": imperative("bake", "cake"),
        "I'd like you to bake a cake.": imperative("bake", "cake"),
        "I need someone to translate a letter into Dutch.": imperative("translate", "letter"),
        "I want to order a pizza.": imperative("order", "pizza"),
        "I want to be a writer. Write a story for me.": imperative("write", "story"),
        "I want to be a writer. How do I start?": question("how"),
        "We wanted to order a pizza.": UNPARSED,
        "You need to describe the smell of rain.": imperative("describe", "smell"),
        "In this exercise, you have to describe the smell of rain.": imperative(
            "describe", "smell"
        ),
        "You are asked to describe the smell of rain.": imperative("describe", "smell"),
        "Your job is to describe the smell of rain.": imperative("describe", "smell"),
        "You must describe the smell of rain in two lines.": imperative("describe", "smell"),
        "You can swim in the lake.": UNPARSED,
        "Do not feed the ducks.": UNPARSED,
        "He said that you should leave.": UNPARSED,
        "Your neighbour is to blame.": UNPARSED,
    },
    "leading context": {
        "Given a list of numbers, sort them.": imperative("sort", "number"),
        "Given a box of pens, sort each by length.": imperative("sort", "pen"),
        "Given a coin, toss it.": imperative("toss", "coin"),
        "You are given a list of numbers. Sort them.": imperative("sort", "number"),
        "You are given two lists of words, find the words that are in both.": imperative(
            "find", "word"
        ),
        "My bicycle is broken. Repair it, please.": imperative("repair", "bicycle"),
        "Given a sentence, your task is to decide if it is a joke.": imperative("decide"),
        "Using the words below, write a short story.": imperative("write", "story"),
        "If it rains, shut the gate.": imperative("shut", "gate"),
        "When it rains, the streets are wet.": UNPARSED,
        "You will be given two numbers.": UNPARSED,
    },
    "context before the request": {
        "A storm is coming. The harbour is closed. Draw a map.": imperative("draw", "map"),
        "You are a painter. Paint the wall.": imperative("paint", "wall"),
        "I want you to act as a pirate. Write a story.": imperative("write", "story"),
        "Imagine that you live on the moon. Write a letter.": imperative("write", "letter"),
        "Imagine a world without salt.": imperative("imagine", "world"),
        "You are asked to bake a cake. But there is no flour. Draw up a plan.": imperative(
            "draw_up", "plan"
        ),
        "You are asked to bake a cake. Ice it.": imperative("bake", "cake", ("ice", "cake")),
    },
    "coordinated verbs": {
        "Wash and peel the pears.": imperative("wash", "pear", ("peel", "pear")),
        "Sketch a boat and paint it.": imperative("sketch", "boat", ("paint", "boat")),
        "Choose a colour and explain why you like it.": imperative(
            "choose", "colour", ("explain", None)
        ),
        "Write a summary. Then list the main points.": imperative(
            "write", "summary", ("list", "point")
        ),
        "Check if the lamp is lit, and print its number.": imperative(
            "check", None, ("print", "number")
        ),
        "Write a function which reads a file and returns the lines.": imperative(
            "write", "function"
        ),
        "Draw the roots and leaves.": imperative("draw", "root"),
        "Write a story. You can use names.": imperative("write", "story"),
        "Draw a cat. For example, draw a tabby.": imperative("draw", "cat"),
    },
    "questions": {
        "What is the capital of Peru?": question("what"),
        "what is the largest lake in the world": question("what"),
        "How many legs does a crab have?": question("how"),
        "Why do cats purr?": question("why"),
        "When did the war end": question("when"),
        "Where do moths sleep?": question("where"),
        "By which route did the ship sail?": question("which"),
        "In what ways are frogs useful?": question("what"),
        "To whom did the king give the crown?": question("who"),
        "Whose hat is this?": question("whose"),
        "Is the moon larger than Pluto?": question("yes_no"),
        "Does a crab or a spider have more legs?": question("yes_no"),
        "I found a hat. Who lost it?": question("who"),
        "If a train leaves at noon, at what time does it arrive?": question("what"),
        "Is the claim true? Output 1 or 0.": question("yes_no"),
        "Which of these is heavier? Give your reasons.": question("which"),
        "Draft a menu. Which dishes come first?": imperative("draft", "menu"),
        "When you leave, shut the gate.": imperative("shut", "gate"),
    },
    "particles": {
        "Write down the names of your neighbours.": imperative("write_down", "name"),
        "Look the word up in a dictionary.": imperative("look_up", "word"),
        "Fill in the form with a pencil.": imperative("fill_in", "form"),
        "Find out which door leads to the garden.": imperative("find_out"),
        "Come up with a slogan for a bakery.": imperative("come_up", "slogan"),
        "Think of a name for a boat.": imperative("think", "name"),
        "Think about your childhood.": imperative("think"),
        "Look at the picture.": imperative("look"),
        "Put the books on the shelf.": imperative("put", "book"),
    },
    "passives": {
        "The rows should be counted.": imperative("count", "row"),
        "Words that are too long should be removed.": imperative("remove", "word"),
        "The rows need to be counted.": imperative("count", "row"),
        "The rows are to be counted.": imperative("count", "row"),
        "The rows were counted yesterday.": UNPARSED,
        "The rows can be counted.": UNPARSED,
        "How should the rows be counted?": question("how"),
    },
    "verbs that lead in": {
        "Try to guess a name.": imperative("guess", "name"),
        "Help me plan a party.": imperative("plan", "party"),
        "Help me with my taxes.": imperative("help"),
        "Can you help me find a hotel?": imperative("find", "hotel"),
        "Let's write a poem about frost.": imperative("write", "poem"),
    },
    "verbs taken for nouns": {
        "List rivers.": imperative("list", "river"),
        "Group these stamps by colour.": imperative("group", "stamp"),
        'Identify the topic. Output "sport" or "music".': imperative(
            "identify", "topic", ("output", None)
        ),
        "Water bottles": UNPARSED,
        "My favourite colour": UNPARSED,
    },
    "quotations and material": {
        'Translate "good evening, my friend" into Welsh.': imperative("translate"),
        'Shorten this sentence: "Paint the wall, then wash your hands."': imperative(
            "shorten", "sentence"
        ),
        "Order the words by length: draw, a, boat": imperative("order", "word"),
        "Name: Ann. Age: 4. What is her age next year?": question("what"),
        "Write a poem.\n\nExample:\nDraw a boat.": imperative("write", "poem"),
        "1. Draw a boat.\n2. Paint a house.": imperative("draw", "boat", ("paint", "house")),
    },
    "not to be parsed": {
        "": UNPARSED,
        "???": UNPARSED,
        "12 + 7": UNPARSED,
        "The height of a lamp post": UNPARSED,
        "It rained all day. The streets were empty.": UNPARSED,
        "请写一首关于大海的诗": UNPARSED,
        "写一首诗 about the sea": UNPARSED,
        "Напиши стихотворение о море.": UNPARSED,
        "Escribe un poema sobre el mar y la luna.": UNPARSED,
        "Schreibe bitte ein kurzes Gedicht über den Winter.": UNPARSED,
        "Écris une histoire courte sur un chat perdu.": UNPARSED,
        "Write a poem about 大海.": imperative("write", "poem"),
    },
}


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_mended_rule(phenomenon):
    wanted = PHENOMENA[phenomenon]
    found = dict(zip(wanted, analyse(wanted), strict=True))
    assert found == wanted
