#include <algorithm>
#include <map>
#include <thread>

#include "text_chat.h"

namespace pensive {
namespace {

using testing::ChatFolder;
using testing::data;
using testing::render;
using Json = nlohmann::ordered_json;

std::string render_json(std::string_view source, std::string_view messages,
                        const ChatOptions& options = {}) {
  return ChatFolder(source).load()->render_chat_json(messages, options);
}

TEST(PublishedTemplate, RendersAsTransformersDoes) {
  const Json recorded = parse_json(read_text(data("text/published.json")), "published.json");
  std::map<std::string, int> renderings;
  for (const Json& entry : recorded["cases"]) {
    const std::string name = entry["template"];
    const std::string source = read_text(data("text/published") / (name + ".jinja"));
    const std::string messages = recorded["chats"][entry["chat"].get<std::string>()].dump();
    const bool has_tools = entry["tools"];
    const ChatOptions options = {entry["prompt"], entry["variables"].dump(),
                                 has_tools ? recorded["tools"].dump() : ""};
    const std::string what = fmt::format("{}, {}, {}, {}", name, entry["chat"].dump(), has_tools,
                                         entry["variables"].dump());
    SCOPED_TRACE(what);
    if (entry.contains("rendered")) {
      EXPECT_EQ(render_json(source, messages, options), entry["rendered"].get<std::string>());
      ++renderings[name];
    } else {
      EXPECT_ERROR(render_json(source, messages, options), ErrorCode::invalid_argument,
                   entry["refused"].get<std::string>());
    }
  }
  EXPECT_EQ(renderings.size(), 11u);
  for (const auto& [name, count] : renderings) EXPECT_GE(count, 10) << name;
}

TEST(ChatJson, IsAMessageWithAnyKeys) {
  EXPECT_EQ(render_json("{{ messages[0].a.b[1] }} {{ messages[1] | tojson }}",
                        R"([{"a": {"b": [1, 2.50]}}, {"role": "tool", "n": null, "x": [null]}])"),
            R"(2.5 {"role": "tool", "x": [null]})");
  EXPECT_EQ(render_json("{{ messages[0] | tojson }}", R"([{"role": "a", "reasoning": "r"}])"),
            R"({"thinking": "r", "role": "a", "reasoning": "r", "reasoning_content": "r"})");
  EXPECT_EQ(render_json("{{ messages | length }}", "[]"), "0");
}

TEST(ChatJson, EqualsPlainMessages) {
  const auto tokenizer = ChatFolder("{{ messages | tojson }}<|done|>").load();
  const std::vector<Message> chat = {{"user", "the \"dog\"\n"}, {"assistant", "é"}};
  constexpr auto json = R"([{"role": "user", "content": "the \"dog\"\n"},
                            {"role": "assistant", "content": "\u00e9"}])";
  EXPECT_EQ(tokenizer->render_chat(chat), tokenizer->render_chat_json(json));
  EXPECT_EQ(tokenizer->encode_chat(chat), tokenizer->encode_chat_json(json));
}

TEST(ChatJson, RefusesWhatIsNoListOfMessages) {
  for (const char* messages : {"", "{", "{}", "3", "[3]", "[[]]", R"([{"a": 1, "a": 2}])",
                               "[\"\xff\"]", R"([{"a": 1e999}])"})
    EXPECT_ERROR(render_json("x", messages), ErrorCode::invalid_argument, "messages_json");
  EXPECT_ERROR(render_json("x", R"([{"role": "user"}, null])"), ErrorCode::invalid_argument,
               "message 1");
  const std::string deep(5000, '[');
  EXPECT_ERROR(render_json("x", deep), ErrorCode::invalid_argument, "deep");
}

TEST(ChatTemplate, PrintsValuesAsPythonDoes) {
  constexpr auto json =
      R"([{"a": [1, 2.0, 1e20, "it's", "\"", "\n\u0007\u00a0é\\"], "b": {"c": false}}])";
  constexpr auto printed =
      R"([{'a': [1, 2.0, 1e+20, "it's", '"', '\n\x07\xa0é\\'], 'b': {'c': False}}])";
  for (const char* source : {"{{ messages }}", "{{ messages | string }}", "{{ messages | trim }}"})
    EXPECT_EQ(render_json(source, json), printed);
  EXPECT_EQ(render("[{{ '\x1c\u00a0 x \x1f' | trim }}{{ 'xyx' | trim('x') }}]"), "[xy]");
}

TEST(ChatTools, ReachTheTemplate) {
  constexpr auto source = "{{ tools | tojson if tools else tools is none }}";
  EXPECT_EQ(render(source), "True");
  EXPECT_EQ(render(source, {}, {.tools_json = R"([{"b": 1, "a": "é"}])"}),
            R"([{"b": 1, "a": "é"}])");
  EXPECT_EQ(render(source, {}, {.variables_json = R"({"tools": [{}]})"}), "[{}]");
}

TEST(ChatTools, RefuseWhatIsNoListOfTools) {
  for (const char* tools : {"{", "{}", "3", "[3]", "[{\"a\":1,\"a\":2}]", "\xff"})
    EXPECT_ERROR(render("x", {}, {.tools_json = tools}), ErrorCode::invalid_argument, "tools_json");
  EXPECT_ERROR(render("x", {}, {.variables_json = R"({"tools": [{}]})", .tools_json = "[{}]"}),
               ErrorCode::invalid_argument, "tools");
}

constexpr auto named = R"({"chat_template": [{"name": "rag", "template": "r"},
    {"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})";

TEST(NamedTemplate, IsChosenAsTransformersDoes) {
  const auto tokenizer = ChatFolder("", named).load();
  EXPECT_EQ(tokenizer->render_chat_json("[]"), "d");
  EXPECT_EQ(tokenizer->render_chat_json("[]", {.tools_json = "[]"}), "t");
  EXPECT_EQ(tokenizer->render_chat_json("[]", {.variables_json = R"({"tools": [{}]})"}), "t");
  EXPECT_EQ(tokenizer->render_chat_json("[]", {.tools_json = "[]", .template_name = "rag"}), "r");
  EXPECT_EQ(tokenizer->chat_templates(), (std::vector<std::string>{"default", "rag", "tool_use"}));
  EXPECT_ERROR(tokenizer->render_chat_json("[]", {.template_name = "none"}), ErrorCode::not_found,
               "default, rag, tool_use");
  EXPECT_EQ(ChatFolder("one").load()->render_chat_json("[]", {.tools_json = "[]"}), "one");
}

TEST(NamedTemplate, ComesFromAFolderToo) {
  const auto tokenizer = ChatFolder("file", named).add("tool_use", "use").add("x", "y").load();
  EXPECT_EQ(tokenizer->chat_templates(), (std::vector<std::string>{"default", "tool_use", "x"}));
  EXPECT_EQ(tokenizer->render_chat_json("[]"), "file");
  EXPECT_EQ(tokenizer->render_chat_json("[]", {.tools_json = "[]"}), "use");
  EXPECT_EQ(tokenizer->render_chat_json("[]", {.template_name = "x"}), "y");
  const auto without = ChatFolder("", named).add("rag", "only").load();
  EXPECT_FALSE(without->has_chat_template());
  EXPECT_ERROR(without->render_chat_json("[]"), ErrorCode::unsupported, "rag");
  EXPECT_ERROR(ChatFolder("").add("x", "a\xff").load(), ErrorCode::corrupt_file, "x.jinja");
  EXPECT_ERROR(
      ChatFolder("").add("x", "{% if %}").load()->render_chat_json("[]", {.template_name = "x"}),
      ErrorCode::corrupt_file, "x.jinja");
}

TEST(Chat, NeverGetsASecondBos) {
  // This tokenizer puts a BOS before every text of its own accord.
  testing::TempDir folder;
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(data("text/byte_level") / file, folder / file);
  testing::write_file(folder / "chat_template.jinja", "{{ bos_token }}{{ messages[0].content }}");
  const auto tokenizer = Tokenizer::load(folder.path());
  const TokenId bos = tokenizer->bos().value();
  ASSERT_EQ(tokenizer->encode("dog").front(), bos);
  for (const auto& ids : {tokenizer->encode_chat(std::vector<Message>{{"user", "dog"}}),
                          tokenizer->encode_chat_json(R"([{"content": "dog"}])")}) {
    EXPECT_EQ(ids.front(), bos);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), bos), 1);
  }
}

TEST(EndlessTemplate, IsStoppedBeforeItTakesAllMemory) {
  const std::string head =
      "{% set ns = namespace(x='0123456789', y=[1]) %}{% for i in range(60) %}";
  for (const char* body :
       {"{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns.y = ns.y + ns.y %}{% endfor %}{{ ns.y }}",
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.y }}",
        "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.y | tojson }}",
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
        "{% set ns.x = ns.x | replace('0', ns.x) %}{% endfor %}",
        "{% set ns.x = [ns.x, ns.x] | join(ns.x) %}{% endfor %}"}) {
    SCOPED_TRACE(body);
    EXPECT_ERROR(render(head + body), ErrorCode::corrupt_file, "MiB");
  }
}

TEST(EndlessTemplate, IsNotTriedAgain) {
  const auto tokenizer = ChatFolder(
                             "{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}{% "
                             "set ns.x = ns.x ~ ns.x %}"
                             "{% endfor %}")
                             .add("good", "g")
                             .load();
  EXPECT_ERROR(tokenizer->render_chat({}), ErrorCode::corrupt_file, "MiB");
  EXPECT_ERROR(tokenizer->render_chat({}), ErrorCode::corrupt_file, "stopped before");
  EXPECT_EQ(tokenizer->render_chat({}, {.template_name = "good"}), "g");
}

TEST(EndlessTemplate, LeavesRoomForLongChats) {
  const std::string content(8 << 20, 'x');
  const std::string source =
      "{% for m in messages %}{% set text = '[' ~ m.content ~ ']' %}{{ text }}{% endfor %}";
  EXPECT_EQ(render(source, {{"user", content}, {"user", content}}).size(), 2 * content.size() + 4);
}

TEST(EndlessTemplate, LeavesOtherThreadsAlone) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      EXPECT_ERROR(render("{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}"
                          "{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
                   ErrorCode::corrupt_file, "MiB");
    });
  for (int i = 0; i < 50; ++i) EXPECT_EQ(render("{{ 1 + 1 }}"), "2");
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace pensive
