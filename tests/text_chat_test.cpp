#include <ctime>

#include "text_chat.h"

namespace pensive {
namespace {

using testing::ChatFolder;
using testing::data;
using testing::render;
using Json = nlohmann::ordered_json;

std::vector<Message> chat_of(const Json& entry) {
  std::vector<Message> chat;
  for (const Json& message : entry["chat"]) chat.push_back({message["role"], message["content"]});
  return chat;
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  for (const Json& entry : parse_json(read_text(data("text/rendered.json")), "rendered.json")) {
    const std::string name = entry["template"];
    const std::string source = read_text(data("text/templates") / (name + ".jinja"));
    const ChatOptions options = {entry["prompt"], entry["variables"].dump()};
    if (entry.contains("rendered")) {
      EXPECT_EQ(render(source, chat_of(entry), options), entry["rendered"].get<std::string>())
          << name << ' ' << entry["chat"].dump() << ' ' << options.variables_json;
    } else {
      EXPECT_ERROR(render(source, chat_of(entry), options), ErrorCode::invalid_argument,
                   entry["refused"].get<std::string>());
    }
  }
}

TEST(ChatTemplate, IsEncodedWithItsSpecialTokens) {
  const auto tokenizer = ChatFolder("{{ bos_token }} {{ messages[0].content }} <|done|>").load();
  const std::vector<Message> chat = {{"user", "the dog"}};
  EXPECT_EQ(tokenizer->decode(tokenizer->encode_chat(chat), true), "<s> the dog <|done|>");
  EXPECT_EQ(tokenizer->encode_chat(chat).front(), tokenizer->bos());
}

TEST(ChatTemplate, ComesFromTheConfigurationToo) {
  const std::vector<Message> chat = {{"user", "x"}};
  EXPECT_EQ(ChatFolder("", R"({"chat_template": "one {{ messages | length }}"})")
                .load()
                ->render_chat(chat),
            "one 1");
  EXPECT_EQ(ChatFolder("", R"({"chat_template": [{"name": "tool_use", "template": "t"},
                                                 {"name": "default", "template": "d"}]})")
                .load()
                ->render_chat(chat),
            "d");
  EXPECT_EQ(ChatFolder("file", R"({"chat_template": "config"})").load()->render_chat(chat), "file");
}

TEST(ChatTemplate, MayBeMissing) {
  for (const char* text : {"{}", R"({"chat_template": null})",
                           R"({"chat_template": [{"name": "tool_use", "template": "t"}]})"}) {
    const auto tokenizer = ChatFolder("", text).load();
    EXPECT_FALSE(tokenizer->has_chat_template());
    EXPECT_ERROR(tokenizer->render_chat({}), ErrorCode::unsupported, "chat template");
  }
}

TEST(TokenizerConfig, RefusesWrongTypes) {
  for (const auto& [text, key] : std::vector<std::pair<std::string, std::string>>{
           {R"({"chat_template": 3})", "chat_template"},
           {R"({"chat_template": {"default": "x"}})", "chat_template"},
           {R"({"chat_template": [3]})", "chat_template"},
           {R"({"chat_template": [{"name": 1}]})", "name"},
           {R"({"chat_template": [{"name": "default"}]})", "template"},
           {R"({"chat_template": [{"name": "a", "template": ""}, {"name": "a", "template": ""}]})",
            "\"a\""},
           {R"({"bos_token": 3})", "bos_token"},
           {R"({"bos_token": {"id": 3}})", "bos_token"},
           {R"({"eos_token": ["</s>"]})", "eos_token"},
           {R"({"eos_token": {"content": null}})", "content"},
           {"[]", "object"},
           {"{", "JSON"},
           {"{\"a\":1,\"a\":2}", "\"a\""}})
    EXPECT_ERROR(ChatFolder("", text).load(), ErrorCode::corrupt_file, key);
  EXPECT_ERROR(ChatFolder("", R"({"pad_token": 3})").load(), ErrorCode::corrupt_file,
               "tokenizer_config.json");
  EXPECT_ERROR(ChatFolder("a\xff").load(), ErrorCode::corrupt_file, "chat_template.jinja");
}

TEST(ChatTemplate, ReportsBrokenOnes) {
  for (const char* source :
       {"{% if %}", "{{ 1 +", "{% for x in %}", "{% endif %}", "{{ x | no_such_filter }}",
        "{% nope %}", "{{ no_such_function() }}", "{% generation %}", "{% include 'x' %}{% if %}",
        "{{ ''.no_such_method() }}"})
    EXPECT_ERROR(render(source), ErrorCode::corrupt_file, "chat_template.jinja");
  EXPECT_ERROR(render("a\nb\n{% if %}"), ErrorCode::corrupt_file, "line 3");
}

TEST(ChatTemplate, PassesItsRefusalOn) {
  EXPECT_ERROR(render("{{ raise_exception('not \"so\": é') }}"), ErrorCode::invalid_argument,
               "not \"so\": é");
  EXPECT_ERROR(render("{{ messages[0].content }}"), ErrorCode::invalid_argument, "undefined");
  EXPECT_ERROR(render("{{ 1 // 0 }}"), ErrorCode::invalid_argument, "chat_template.jinja");
}

TEST(ChatTemplate, EndsEndlessOnes) {
  const std::string loops =
      "{% for a in range(9999) %}{% for b in range(9999) %}"
      "{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
  EXPECT_ERROR(render(loops), ErrorCode::corrupt_file, "fuel");
  EXPECT_ERROR(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
               ErrorCode::invalid_argument, "recursion");
  EXPECT_ERROR(render("{{ 'x' * 10000000000000 }}"), ErrorCode::invalid_argument, "too large");
}

TEST(ChatTemplate, SurvivesDeepOnes) {
  const auto repeated = [](std::string_view text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
  };
  EXPECT_THROW(render("{{ " + repeated("(", 100000)), Error);
  EXPECT_THROW(render("{{ " + repeated("[", 100000)), Error);
  EXPECT_THROW(render(repeated("{% if 1 %}", 50000)), Error);
  EXPECT_THROW(render("{% if 0 %}" + repeated("{% elif 0 %}", 50000)), Error);
  EXPECT_THROW(render(repeated("x", (1 << 20) + 1)), Error);
  const auto may_fail = [](const std::string& source) {
    try {
      render(source);
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::internal) << error.what();
    }
  };
  may_fail("{{ 1" + repeated("+1", 400000) + " }}");
  may_fail("{{ ''" + repeated("~''", 300000) + " }}");
  may_fail("{{ x" + repeated(".a", 400000) + " }}");
  may_fail("{{ 1" + repeated("|abs", 200000) + " }}");
  may_fail("{{ " + repeated("not ", 200000) + "1 }}");
  may_fail("{{ " + repeated("-", 400000) + "1 }}");
  may_fail("{% if 0 %}" + repeated("{% elif 0 %}", 80000) + "{% endif %}");
  may_fail(
      "{% set ns = namespace(x=[]) %}{% for a in range(9999) %}{% for b in range(9999) %}"
      "{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}");
  may_fail(
      "{% set ns = namespace(x=[]) %}{% for a in range(9) %}{% for b in range(9999) %}"
      "{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}{{ ns.x }}");
  may_fail(
      "{% set ns = namespace(x=[]) %}{% for b in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}"
      "{{ ns.x | tojson }}");
}

TEST(ChatTemplate, TellsTheTime) {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  localtime_r(&now, &parts);
  EXPECT_EQ(render("{{ strftime_now('%Y') }}").size(), 4u);
  EXPECT_EQ(render("[{{ strftime_now('') }}]"), "[]");
  EXPECT_EQ(render("{{ strftime_now('é %%') }}"), "é %");
  EXPECT_ERROR(render("{{ strftime_now('a\\0b') }}"), ErrorCode::invalid_argument, "");
}

TEST(ChatVariables, BecomeVariables) {
  const ChatOptions options = {false, R"({"n": 3, "bos_token": "B", "o": {"k": [1, null]}})"};
  EXPECT_EQ(
      render("{{ n + 1 }}{{ bos_token }}{{ o.k[0] }}{{ add_generation_prompt }}", {}, options),
      "4B1False");
}

TEST(ChatVariables, RefuseWhatIsNoObject) {
  for (const char* text : {"{", "[]", "3", "{\"a\":1,\"a\":2}", "{\"messages\":[]}",
                           "{\"add_generation_prompt\":true}", "\xff"})
    EXPECT_ERROR(render("x", {}, {true, text}), ErrorCode::invalid_argument, "variables_json");
}

TEST(ChatMessages, MustBeUtf8) {
  EXPECT_ERROR(render("x", {{"user", "\xff"}}), ErrorCode::invalid_argument, "content");
  EXPECT_ERROR(render("x", {{"\xff", "x"}}), ErrorCode::invalid_argument, "role");
}

TEST(Smollm2, IsAsTransformersHasIt) {
  const auto folder = testing::smollm2();
  if (!folder) GTEST_SKIP() << testing::no_smollm2;
  const auto tokenizer = Tokenizer::load(*folder);
  const Json recorded = parse_json(read_text(data("text/smollm2.json")), "smollm2.json");
  for (const Json& entry : recorded["texts"]) {
    const std::string text = entry["text"];
    const auto ids = entry["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer->encode(text), ids) << text;
    EXPECT_EQ(tokenizer->encode(text, {AddSpecial::no, ParseSpecial::no}),
              entry["literal"].get<std::vector<TokenId>>())
        << text;
    EXPECT_EQ(tokenizer->decode(ids, true), entry["kept"].get<std::string>());
    TextStream stream(tokenizer, true);
    std::string streamed;
    for (const TokenId id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), entry["kept"].get<std::string>());
  }
  for (const Json& entry : recorded["chats"]) {
    const auto chat = chat_of(entry);
    const ChatOptions options = {entry["prompt"], ""};
    EXPECT_EQ(tokenizer->render_chat(chat, options), entry["rendered"].get<std::string>());
    EXPECT_EQ(tokenizer->encode_chat(chat, options), entry["ids"].get<std::vector<TokenId>>());
  }
}

}  // namespace
}  // namespace pensive
