# recipes/demo.toml as a string in the binary: `hadal demo` runs on a machine with no files at all.
file(READ ${CMAKE_SOURCE_DIR}/recipes/demo.toml demo_recipe)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/recipes/demo.toml)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/cli/demo_recipe.h @ONLY CONTENT [[
#pragma once
namespace hadal {
inline constexpr char kDemoRecipe[] = R"toml(@demo_recipe@)toml";
}  // namespace hadal
]])
