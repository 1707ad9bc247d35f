# Thin wrapper: CMakeLists.txt is the only description of the build. node-gyp (run by prebuildify) only calls it.
{
  "targets": [{
    "target_name": "poc",
    "type": "none",
    "actions": [{
      "action_name": "cmake",
      "message": "building with CMake (native/build.cjs)",
      "inputs": ["CMakeLists.txt", "package.json"],
      # Never made, so that the action always runs and the build tool decides what is stale.
      "outputs": ["<(module_root_dir)/build/Release/poc.node.always"],
      "action": ["node", "<(module_root_dir)/native/build.cjs"]
    }]
  }]
}
