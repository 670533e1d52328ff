#include "cli/demo_tale.h"

#include <array>

namespace turnpike::cli {
namespace {

constexpr std::array<std::string_view, kTaleParts> kSentences = {
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to "
    "do.",
    "Once or twice she had peeped into the book her sister was reading, but it had no pictures or "
    "conversations in it.",
    "And what is the use of a book, thought Alice, without pictures or conversations?",
    "So she was considering in her own mind, as well as she could, for the hot day made her feel very sleepy "
    "and "
    "stupid.",
    "Would the pleasure of making a daisy-chain be worth the trouble of getting up and picking the daisies?",
    "Suddenly a White Rabbit with pink eyes ran close by her.",
    "There was nothing so very remarkable in that.",
    "Nor did Alice think it so very much out of the way to hear the Rabbit say to itself: Oh dear! Oh dear! "
    "I shall be "
    "late!",
    "But when the Rabbit actually took a watch out of its waistcoat-pocket, and looked at it, and then "
    "hurried on, "
    "Alice started to her feet.",
    "It flashed across her mind that she had never before seen a rabbit with either a waistcoat-pocket, or a "
    "watch to "
    "take out of it.",
    "Burning with curiosity, she ran across the field after it.",
    "She was just in time to see it pop down a large rabbit-hole under the hedge.",
    "In another moment down went Alice after it, never once considering how in the world she was to get out "
    "again.",
    "The rabbit-hole went straight on like a tunnel for some way, and then dipped suddenly down.",
    "So suddenly that Alice had not a moment to think about stopping herself before she found herself "
    "falling down a "
    "very deep well.",
    "Either the well was very deep, or she fell very slowly.",
    "She had plenty of time as she went down to look about her and to wonder what was going to happen next.",
    "First, she tried to look down and make out what she was coming to, but it was too dark to see anything.",
    "Then she looked at the sides of the well, and noticed that they were filled with cupboards and "
    "book-shelves.",
    "Here and there she saw maps and pictures hung upon pegs.",
    "She took down a jar from one of the shelves as she passed; it was labelled orange marmalade.",
    "But to her great disappointment it was empty.",
    "Well! thought Alice to herself, after such a fall as this, I shall think nothing of tumbling down "
    "stairs!",
    "Down, down, down. Would the fall never come to an end?",
};

constexpr std::array<std::string_view, kTaleParts> kTitles = {
    "Down the Rabbit-Hole",
    "The Pool of Tears",
    "A Caucus-Race and a Long Tale",
    "The Rabbit Sends in a Little Bill",
    "Advice from a Caterpillar",
    "Pig and Pepper",
    "A Mad Tea-Party",
    "The Queen's Croquet-Ground",
    "The Mock Turtle's Story",
    "The Lobster Quadrille",
    "Who Stole the Tarts?",
    "Alice's Evidence",
    "Looking-Glass House",
    "The Garden of Live Flowers",
    "Looking-Glass Insects",
    "Tweedledum and Tweedledee",
    "Wool and Water",
    "Humpty Dumpty",
    "The Lion and the Unicorn",
    "It's My Own Invention",
    "Queen Alice",
    "Shaking",
    "Waking",
    "Which Dreamed It?",
};

}  // namespace

std::string_view tale_sentence(std::size_t part) {
  return kSentences[part % kTaleParts];
}

std::string_view tale_title(std::size_t part) {
  return kTitles[part % kTaleParts];
}

}  // namespace turnpike::cli
