"""Writing a TFLite model that was unpacked and changed."""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

# What the schema demands of the content of buffers (`force_align`).
BUFFER_ALIGNMENT = 16


class _Builder(flatbuffers.Builder):
    """Aligns vectors of bytes as the schema demands; LiteRT's code for Python does not."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        if elemSize == 1:
            alignment = BUFFER_ALIGNMENT
        return super().StartVector(elemSize, numElems, alignment)


def serialize(model: schema.ModelT) -> bytes:
    """The content of a `.tflite` file."""
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    builder = _Builder(2 * sum(sizes) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
