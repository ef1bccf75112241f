// Without libFuzzer: every file of the folders given, once. replay FOLDERS...
#include <iostream>
#include <iterator>

#include "fuzz.h"

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string input{std::istreambuf_iterator<char>(file), {}};
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
      ++count;
    }
  std::cout << count << " inputs\n";
  return count > 0 ? 0 : 1;
}
