// Learns one continue-thinking word on a few problems, saves it, and loads it again.
#include <iostream>

#include "pensive/exam.h"
#include "pensive/guides.h"
#include "pensive/train.h"

int main(int argc, char** argv) try {
  using namespace pensive;
  const std::filesystem::path folder = argc > 1 ? argv[1] : "examples/reasoner";
  auto model = Model::load(folder);
  auto soft = std::make_shared<SoftVocab>(model);
  const auto wait = model->tokenizer()->encode("Wait", {.add_special = AddSpecial::no});
  const TokenId learned = soft->add("learned", wait);
  Engine engine(model, {.soft = soft});

  TrainOptions options;
  options.rollout.guides = {continue_thinking({.with = {learned}})};
  options.rollout.sampling.temperature = 1.0f;
  options.group_size = 8;
  Trainer trainer(engine, soft, learned, correct(), options);

  const auto problems = load_problems(folder / "problems" / "train.jsonl");
  for (std::size_t step = 0; step < 3; ++step) {
    const TrainReport report = trainer.step(std::span(problems).subspan(step * 8, 8));
    std::cout << "step " << report.step << ": reward " << report.mean_reward << "\n";
  }

  const auto file = std::filesystem::temp_directory_path() / "pensive_learned.safetensors";
  soft->save(file);
  std::cout << SoftVocab::load(model, file)->name(learned) << " is in " << file << "\n";
} catch (const pensive::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
