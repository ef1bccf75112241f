// A model's name on the Hugging Face hub, looked up in the cache of this machine.
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>

#include "shell.h"

namespace pensive::shell {
namespace {

namespace fs = std::filesystem;

// As huggingface_hub finds it.
fs::path cache_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const auto folder = variable(name); !folder.empty()) return folder;
  if (const auto home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const auto cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface" / "hub";
  return fs::path(variable("HOME")) / ".cache" / "huggingface" / "hub";
}

// The commit that a branch or tag points to; a commit is itself.
std::string commit_of(const fs::path& model, const std::string& revision) {
  std::ifstream file(model / "refs" / revision);
  std::string commit;
  return file >> commit ? commit : revision;
}

// The first file of a snapshot that is a link to nothing: a download that was not finished.
std::string missing_file(const fs::path& snapshot) {
  for (const auto& entry : fs::recursive_directory_iterator(snapshot))
    if (entry.is_symlink() && !fs::exists(entry.path()))
      return fs::relative(entry.path(), snapshot).string();
  return fs::exists(snapshot / "config.json") ? "" : "config.json";
}

}  // namespace

std::string model_folder(const std::string& given, const std::string& revision) {
  static const std::regex hub_id("[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*");
  static const std::regex revision_name("[A-Za-z0-9][A-Za-z0-9._/-]*");
  if (fs::exists(given) || !std::regex_match(given, hub_id)) {
    if (revision.empty()) return given;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected --revision beside a hub id; found {}", given));
  }
  const std::string wanted = revision.empty() ? "main" : revision;
  if (!std::regex_match(wanted, revision_name) || wanted.find("..") != std::string::npos) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a branch, tag or commit; found '{}' (--revision)", wanted));
  }
  std::string folder_name = "models--" + given;
  folder_name.replace(folder_name.find('/'), 1, "--");
  const fs::path model = cache_folder() / folder_name;
  const fs::path snapshot = model / "snapshots" / commit_of(model, wanted);
  std::string found = "neither";
  if (fs::is_directory(snapshot)) {
    const std::string missing = missing_file(snapshot);
    if (missing.empty()) return snapshot.string();
    found = "a download without " + missing;
  } else if (fs::is_directory(model)) {
    found = "no revision " + wanted;
  }
  throw Error(ErrorCode::not_found,
              fmt::format("expected a checkpoint's folder, or a hub id in the Hugging Face cache; "
                          "found {} ({}; {}). To get it: hf download {}{}",
                          found, given, model.string(), given,
                          revision.empty() ? "" : " --revision " + revision));
}

}  // namespace pensive::shell
