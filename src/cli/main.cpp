#include "cli/app.h"

int main(int argc, char** argv) {
  return hadal::run_cli(argc, argv);
}
