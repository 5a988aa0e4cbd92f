"""What is in a `.tflite` file: operators, metadata and labels. Never imports TensorFlow."""
