extern "C" __attribute__((visibility("default"))) void* tflite_plugin_create_delegate() { return nullptr; }
